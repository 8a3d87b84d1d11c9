"""
Logits of a packed model folder by other means than apiq's: numpy unpacks the weights as docs/FORMAT.md (and GPTQ's own layout)
says, transformers runs the decoder and peft the calibrated LoRA, in float64 (norms and rotations stay float32).

Reads one JSON object on standard input and prints one on standard output:

  in   {"model": folder, "ids": [token ids], "logits": file to write, float32 [ids, vocabulary]}
  out  {"modules": packed matrices by kind, "lora": whether there is an apiq_init, "nll": mean,
        "noise": how far transformers' own float32 is from that, "torch", "transformers", "peft"}
"""

import json
import re
import sys
from pathlib import Path

import numpy
import peft
import torch
import transformers
from safetensors import safe_open


def read_tensors(folder):
    tensors = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            for name in file.keys():
                tensors[name] = file.get_tensor(name)
    return tensors


def unpack(words, bits, count):
    """Little-endian bit streams along the first axis: int32 [words, columns] -> [count, columns]."""
    rows = numpy.ascontiguousarray(words.astype(numpy.uint32).T).view(numpy.uint8)
    stream = numpy.unpackbits(rows, axis=1, bitorder="little")[:, : count * bits]
    values = stream.reshape(len(rows), count, bits) @ (1 << numpy.arange(bits))
    return values.T


class Scheme:
    """What the config says about one module."""

    def __init__(self, config):
        self.config = config
        self.gptq = config["quant_method"] == "gptq"

    def of(self, module):
        entries = {} if self.gptq else self.config.get("modules", {})
        if module in entries:
            return {**self.config, **entries[module]}
        for pattern, entry in entries.items():
            # A star stands for one part of a dotted name.
            if re.fullmatch(re.escape(pattern).replace(r"\*", r"[^.]*"), module):
                return {**self.config, **entry}
        return self.config


def dequantize(module, tensors, scheme):
    """float32 [out, in] and the kind of storage."""
    settings = scheme.of(module)
    part = lambda name: tensors[f"{module}.{name}"].numpy()
    bits, group = settings["bits"], settings["group_size"]
    qweight = part("qweight")
    in_features = qweight.shape[0] * 32 // bits
    codes = unpack(qweight, bits, in_features)
    groups = numpy.arange(in_features) // group
    if settings.get("family", "affine") == "lut":
        return lut(part, codes, groups, settings), "lut"
    scales = part("scales").astype(numpy.float32)
    out_features = scales.shape[1]
    if not scheme.gptq and settings["zero"] == "float":
        minima = part("mins").astype(numpy.float32)
        return (codes * scales[groups] + minima[groups]).T, "affine, float zero"
    zeros = unpack(part("qzeros").T, bits, out_features).T
    if scheme.gptq and settings.get("checkpoint_format", "gptq") == "gptq":
        # Version 1 holds the zero minus one, wrapped around.
        zeros = (zeros + 1) % (1 << bits)
    return ((codes - zeros[groups]).astype(numpy.float32) * scales[groups]).T, "affine, integer zero"


def lut(part, codes, groups, settings):
    table = part("lut").astype(numpy.float32)
    if settings.get("double_quantization", False):
        # 8 bits with one maximum for 256 scales, counted through [out, groups]; what they give is rounded to float16.
        stored = part("scale_codes").astype(numpy.float64)
        blocks = numpy.arange(stored.size) // 256
        flat = (stored.reshape(-1) - 128) / 127 * part("scale_absmax")[blocks] + part("scale_offset")[0]
        scales = flat.reshape(stored.shape).T.astype(numpy.float32).astype(numpy.float16)
    else:
        scales = part("scales")
    return (table[codes] * scales.astype(numpy.float32)[groups]).T


def build(folder, config, tensors):
    scheme = Scheme(config.pop("quantization_config")) if "quantization_config" in config else None
    kinds = {}
    dense = {}
    for name, tensor in tensors.items():
        module, _, leaf = name.rpartition(".")
        if leaf == "qweight":
            weight, kind = dequantize(module, tensors, scheme)
            dense[f"{module}.weight"] = torch.from_numpy(numpy.ascontiguousarray(weight, dtype=numpy.float32))
            kinds[kind] = kinds.get(kind, 0) + 1
        elif leaf in ("weight", "bias"):
            dense[name] = tensor.float()
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(transformers.AutoConfig.for_model(**config))
    if config.get("tie_word_embeddings"):
        dense["lm_head.weight"] = dense["model.embed_tokens.weight"]
    model.load_state_dict(dense, strict=True, assign=True)
    # Frequencies are no tensors of the file: made again, off the meta device.
    model.model.rotary_emb = type(model.model.rotary_emb)(model.config)
    return model.double().eval(), kinds


def main():
    task = json.load(sys.stdin)
    folder = Path(task["model"])
    config = json.loads((folder / "config.json").read_text())
    config.pop("apiq_fingerprint", None)
    # Everything is computed in float32, whatever type the model was saved in.
    config.pop("torch_dtype", None)
    config.pop("dtype", None)
    model, kinds = build(folder, config, read_tensors(folder))
    adapter = folder / "apiq_init"
    if adapter.exists():
        model = peft.PeftModel.from_pretrained(model, adapter).double().eval()
    ids = torch.tensor([task["ids"]])
    with torch.no_grad():
        exact = model(input_ids=ids).logits[0]
        rounded = model.float()(input_ids=ids).logits[0]
    noise = (rounded - exact).abs().max().item()
    logits = exact.float()
    nll = torch.nn.functional.cross_entropy(logits[:-1], ids[0, 1:]).item()
    logits.numpy().tofile(task["logits"])
    versions = {"torch": torch.__version__, "transformers": transformers.__version__, "peft": peft.__version__}
    print(json.dumps({"modules": kinds, "lora": adapter.exists(), "nll": nll, "noise": noise, **versions}))


if __name__ == "__main__":
    main()
