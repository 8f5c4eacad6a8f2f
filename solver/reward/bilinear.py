"""The bilinear token head: a reward for each token, read from the state before it.

    r_t = (B h_(t-1)) . E[x_t]

h is a causal language model's last hidden state, E its input embeddings, B a square matrix that starts at zero. The
score of a text is half the sum of r_t over the tokens of its solution; two texts with the same prefix differ by
their own tokens' rewards alone. Not the paper's head: in a small model no single state holds the verdict on a step, but
each state holds which next tokens would be right. Training compares scores; the value in a tree is tanh(score / 2).

A checkpoint is a causal language model's folder with `bilinear.safetensors` (the tensor `bilinear`, hidden x hidden,
float32) and the card (reward/card.py, head `token_bilinear`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rstar_eval.errors import UserError

HEAD_FILE = "bilinear.safetensors"
TENSOR = "bilinear"


def bilinear_model(causal: Any) -> Any:
    """Return a torch module of the causal model `causal` (as `.lm`) with a zero matrix `.bilinear` (hidden x hidden).

    Called with `input_ids` (batch x length), `attention_mask` (1 where a token is) and, optionally, `position_ids`, it
    returns the rewards of the tokens (batch x length, float32; 0 at each row's place 0).
    """
    import torch

    class BilinearReward(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.lm = causal
            self.config = causal.config
            size = causal.get_input_embeddings().weight.shape[1]
            self.bilinear = torch.nn.Parameter(torch.zeros(size, size))

        def forward(self, input_ids: Any, attention_mask: Any = None, position_ids: Any = None) -> Any:
            hidden = self.lm.base_model(
                input_ids=input_ids, attention_mask=attention_mask, position_ids=position_ids, use_cache=False
            ).last_hidden_state
            embedded = self.lm.get_input_embeddings()(input_ids)
            rewards = token_rewards(self.bilinear, hidden[:, :-1], embedded[:, 1:])
            return torch.nn.functional.pad(rewards, (1, 0))

    return BilinearReward()


def token_rewards(matrix: Any, before: Any, embedded: Any) -> Any:
    """Return r (float32, ...) for hidden states before the tokens and the tokens' embeddings (both ... x hidden)."""
    return ((before.float() @ matrix.float().T) * embedded.float()).sum(-1)


def score_of(rewards: Any, solution: Any) -> Any:
    """Return the score of each text of a batch: half the sum of the rewards where `solution` (same shape) is 1."""
    return (rewards * solution).sum(-1) / 2


def save_head(matrix: Any, folder: Path) -> None:
    """Write the head beside the causal model saved in `folder`."""
    import torch
    from safetensors.torch import save_file

    save_file({TENSOR: matrix.detach().to("cpu", torch.float32).contiguous()}, folder / HEAD_FILE)


def load_head(folder: Path, hidden: int) -> Any:
    """Return the head's matrix (hidden x hidden, float32). UserError if missing, unreadable, of another size."""
    from safetensors.torch import load_file

    path = folder / HEAD_FILE
    if not path.is_file():
        raise UserError(f"{str(folder)!r} has no {HEAD_FILE}, which its card asks for", "save the model again")
    try:
        tensors = load_file(path)
    except Exception as error:  # noqa: BLE001  the reader raises whatever the file makes it raise
        raise UserError(f"{str(path)!r} can't be read ({' '.join(str(error).split())[:120]})") from None
    matrix = tensors.get(TENSOR)
    if matrix is None or tuple(matrix.shape) != (hidden, hidden):
        found = "no such tensor" if matrix is None else f"{tuple(matrix.shape)}"
        raise UserError(f"{str(path)!r} should hold {TENSOR} of {hidden} x {hidden}, found {found}")
    return matrix
