"""
LoRA finetuning with peft on a dense model in PyTorch: what apiq's training step is timed against.

Reads one JSON object on standard input and prints one on standard output:

  in   {"dense": folder with apiq_init inside, "learningRate", "threads", "warmup": steps, "steps": timed steps, "recompute",
        "ids": [[token ids] per step]}
  out  {"seconds": [of every timed step], "losses": [of every step], "peakBytes", "about"}

transformers' own model with its default attention (sdpa) in float32, fused AdamW, gradients of LoRA alone, batch 1. "recompute"
switches gradient checkpointing on.
"""

import json
import resource
import sys
import time
from pathlib import Path

import peft
import torch
import transformers


def main():
    task = json.load(sys.stdin)
    torch.set_num_threads(task["threads"])
    base = transformers.AutoModelForCausalLM.from_pretrained(task["dense"], dtype=torch.float32)
    if task["recompute"]:
        base.gradient_checkpointing_enable()
        base.enable_input_require_grads()
    base.config.use_cache = False
    model = peft.PeftModel.from_pretrained(base, Path(task["dense"]) / "apiq_init", is_trainable=True)
    model.train()
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=task["learningRate"], weight_decay=0.0, fused=True)
    seconds, losses = [], []
    for index, sequence in enumerate(task["ids"]):
        begin = time.perf_counter()
        ids = torch.tensor([sequence])
        loss = model(input_ids=ids, labels=ids).loss
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if index >= task["warmup"]:
            seconds.append(time.perf_counter() - begin)
    kept = ", gradient checkpointing" if task["recompute"] else ""
    result = {
        "seconds": seconds,
        "losses": losses,
        # Linux counts in kilobytes.
        "peakBytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "about": f"PyTorch {torch.__version__}, peft {peft.__version__}, transformers {transformers.__version__}{kept}",
    }
    json.dump(result, sys.stdout)


if __name__ == "__main__":
    main()
