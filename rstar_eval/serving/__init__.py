"""The solver behind an OpenAI-compatible API (`rstar-eval serve`). Needs the extra `serve`."""
