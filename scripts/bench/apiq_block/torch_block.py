"""
ApiQ-bw (arXiv 2402.05147) on one decoder block in PyTorch: what apiq's own loop is timed against.

Reads one JSON object on standard input and prints one on standard output:

  in   {"model": folder, "layer": n, "bits", "group", "rank", "alpha", "loraLearningRate", "clippingLearningRate",
        "weightDecay", "augLoss", "threads", "warmup": steps, "steps": timed steps, "ids": [[token ids] per sample]}
  out  {"secondsPerStep": median, "secondsPerForward": median, "losses": [of every step], "compileSeconds", "torch", "transformers"}

The block is transformers' own decoder layer with its default attention (sdpa), the fake-quantizer is compiled, AdamW is the
fused one: the fastest that PyTorch offers short of compiling the whole block. Batch 1, float32.
"""

import json
import math
import statistics
import sys
import time
from pathlib import Path

import torch
import transformers
from safetensors import safe_open
from torch.nn import functional

LINEARS = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj") + (
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
)


@torch.compile(dynamic=False)
def fake_quantize(weight, high_factor, low_factor, bits: int, group: int):
    """
    Asymmetric min-max under learned clipping. Rounding passes gradients straight through, the rounded zero has none, and neither
    have integers that land on an end of the range or beyond it.
    """
    levels = 2**bits - 1
    groups = weight.view(-1, group)
    high = torch.sigmoid(high_factor) * groups.amax(-1, keepdim=True)
    low = torch.sigmoid(low_factor) * groups.amin(-1, keepdim=True)
    scale = ((high - low) / levels).clamp(1e-5, 1e4)
    zero = (-low / scale).detach().clamp(-1e4, 1e4).round()
    ratio = groups / scale
    integer = ratio + (ratio.round() - ratio).detach() + zero
    inside = (integer > 0) & (integer < levels)
    clamped = torch.where(inside, integer, integer.detach().clamp(0, levels))
    return ((clamped - zero) * scale).view_as(weight)


class QuantizedLinear(torch.nn.Module):
    """y = x Q(W)^T + alpha / rank (x A^T) B^T, with W frozen."""

    def __init__(self, linear, settings, generator):
        super().__init__()
        out_features, in_features = linear.weight.shape
        rank, group = settings["rank"], settings["group"]
        self.weight = linear.weight.detach()
        self.bias = None if linear.bias is None else linear.bias.detach()
        self.bits, self.group, self.scale = settings["bits"], group, settings["alpha"] / rank
        # What kaiming_uniform_(a=sqrt(5)) is: uniform within 1 / sqrt(in).
        bound = 1 / math.sqrt(in_features)
        self.a = torch.nn.Parameter(torch.empty(rank, in_features).uniform_(-bound, bound, generator=generator))
        self.b = torch.nn.Parameter(torch.zeros(out_features, rank))
        factors = (out_features * in_features // group, 1)
        self.high_factor = torch.nn.Parameter(torch.full(factors, 4.0))
        self.low_factor = torch.nn.Parameter(torch.full(factors, 4.0))

    def forward(self, x):
        weight = fake_quantize(self.weight, self.high_factor, self.low_factor, self.bits, self.group)
        lora = functional.linear(functional.linear(x, self.a), self.b)
        return functional.linear(x, weight, self.bias) + self.scale * lora


def load_tensors(folder, wanted):
    """Tensors whose name `wanted` accepts, as float32, from all safetensors files of the folder."""
    found = {}
    for path in sorted(Path(folder).glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            for name in file.keys():
                if wanted(name):
                    found[name] = file.get_tensor(name).float()
    return found


def make_block(config, layer, tensors):
    from transformers.models.llama.modeling_llama import LlamaDecoderLayer

    block = LlamaDecoderLayer(config, layer)
    prefix = f"model.layers.{layer}."
    block.load_state_dict({name[len(prefix) :]: tensor for name, tensor in tensors.items() if name.startswith(prefix)})
    return block.requires_grad_(False)


def replace_linears(block, settings):
    generator = torch.Generator().manual_seed(0)
    replaced = []
    for name in LINEARS:
        parent, leaf = name.split(".")
        linear = QuantizedLinear(getattr(getattr(block, parent), leaf), settings, generator)
        setattr(getattr(block, parent), leaf, linear)
        replaced.append(linear)
    return replaced


def main():
    settings = json.load(sys.stdin)
    torch.set_num_threads(settings["threads"])
    config = transformers.AutoConfig.from_pretrained(settings["model"])
    if config.model_type != "llama":
        raise SystemExit(f"Cannot time {settings['model']}: received model type {config.model_type}, expected llama")
    config._attn_implementation = "sdpa"
    layer = settings["layer"]
    wanted = (f"model.layers.{layer}.", "model.embed_tokens.")
    tensors = load_tensors(settings["model"], lambda name: name.startswith(wanted))
    reference, quantized = make_block(config, layer, tensors), make_block(config, layer, tensors)
    linears = replace_linears(quantized, settings)

    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    ids = torch.tensor(settings["ids"])
    positions = torch.arange(ids.shape[1])[None]
    streams = functional.embedding(ids, tensors["model.embed_tokens.weight"])
    rotation = LlamaRotaryEmbedding(config)(streams[:1], positions)

    def run(block, x):
        # No mask: sdpa then takes its causal path.
        y = block(x, attention_mask=None, position_embeddings=rotation, position_ids=positions)
        return y[0] if isinstance(y, tuple) else y

    def seconds_of_forwards():
        times = []
        with torch.no_grad():
            for sample in streams:
                begin = time.perf_counter()
                target = run(reference, sample[None])
                times.append(time.perf_counter() - begin)
                targets.append(target)
        return times

    targets = []
    forward_times = seconds_of_forwards()
    # The block is timed by itself, on the embeddings: both streams are the same tensor here, but both targets are used.
    aug_targets = [target.clone() for target in targets] if settings["augLoss"] else None
    decay = settings["weightDecay"]
    optimizer = torch.optim.AdamW(
        [
            {
                "params": [p for linear in linears for p in (linear.a, linear.b)],
                "lr": settings["loraLearningRate"],
                "weight_decay": decay,
            },
            {
                "params": [p for linear in linears for p in (linear.high_factor, linear.low_factor)],
                "lr": settings["clippingLearningRate"],
                "weight_decay": decay,
            },
        ],
        fused=True,
    )

    def step(index):
        output = run(quantized, streams[index][None])
        loss = functional.mse_loss(output, targets[index])
        if aug_targets is not None:
            loss = loss + functional.mse_loss(output, aug_targets[index])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    losses, times = [], []
    begin = time.perf_counter()
    for count in range(settings["warmup"] + settings["steps"]):
        start = time.perf_counter()
        losses.append(step(count % len(streams)))
        if count == 0:
            compile_seconds = time.perf_counter() - begin
        if count >= settings["warmup"]:
            times.append(time.perf_counter() - start)
    result = {
        "secondsPerStep": statistics.median(times),
        "secondsPerForward": statistics.median(forward_times),
        "compileSeconds": compile_seconds,
        "losses": losses,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    json.dump(result, sys.stdout)


if __name__ == "__main__":
    main()
