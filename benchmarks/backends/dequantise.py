"""A GGUF model as a plain float32 checkpoint, which vLLM and transformers compute on a CPU.

    python benchmarks/backends/dequantise.py MODEL.gguf FOLDER

Needs the packages gguf and transformers. Half a billion parameters take two minutes and 2.5 GB of disk.
Each weight is what llama.cpp computes with; activations, which llama.cpp rounds too, stay float32.
"""

from __future__ import annotations

import argparse
from pathlib import Path


def main() -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("gguf", type=Path)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    where, name = str(options.gguf.resolve().parent), options.gguf.name
    loaded = AutoModelForCausalLM.from_pretrained(where, gguf_file=name, dtype=torch.float32)
    weights = loaded.state_dict()
    # transformers does not save a model that it knows as quantised, though its weights are float32 by now.
    described = loaded.config.to_dict()
    described.pop("quantization_config", None)
    plain = AutoModelForCausalLM.from_config(AutoConfig.for_model(**described)).float()
    plain.load_state_dict(weights)
    plain.save_pretrained(options.folder)
    AutoTokenizer.from_pretrained(where, gguf_file=name).save_pretrained(options.folder)
    print(f"{options.folder}: {sum(one.numel() for one in plain.parameters()):,} parameters, float32")


if __name__ == "__main__":
    main()
