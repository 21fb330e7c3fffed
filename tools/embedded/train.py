#!/usr/bin/env python3
"""Trains the embedded model. Stop it whenever you like; the same command goes on.

    train.py WORK --mixture text=0.4,picture=0.2 [--steps N] [--hours H] [--cooldown N]
                  [--start FOLDER] [--tokens 8192] [--device auto] [--ranks 2]

Every few minutes WORK/train/last.pt is written (weights, their running mean, state of the
optimizers, counters) and WORK/train/log.csv gets a line with the losses since the line before.
The rate of learning is constant after a short warm-up, so that a run can be prolonged at will and
its mixture changed; with --cooldown N the rate falls to zero over N steps, from wherever the run
is. Then WORK/train/cooled-STEP.pt is a model; a run may go on behind it, to another one. A file
WORK/train/stop ends a run early.

On a CPU two processes with one thread each share the work and add up their gradients once in a
step: on a machine that does other things as well, threads would wait for each other after every
small operation, which was seen to cost a factor of ten.
"""
import argparse
import datetime
import json
import math
import os
import tempfile
import time
from pathlib import Path

import torch
import torch.distributed as dist

import data
import guesses
import net
import swift
import weights

LR_MATRIX, LR_OTHER, WARMUP = 0.008, 0.003, 60
SAVE_EVERY = 240  # seconds
EMA = 0.996


def orthogonal(g):
    """The nearest orthogonal matrix, nearly: five rounds of a quintic iteration, for which bfloat16 is exact
    enough (Jordan 2024, "Muon")."""
    x = (g / (g.norm() + 1e-7)).to(swift.NUM)
    tall = x.shape[0] > x.shape[1]
    if tall:
        x = x.t()
    for _ in range(5):
        a = x @ x.t()
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return (x.t() if tall else x).float()


class Muon(torch.optim.Optimizer):
    """Momentum whose steps are made orthogonal: for the matrices of the decoder."""

    def __init__(self, params, lr, momentum=0.95, decay=0.02):
        super().__init__(params, dict(lr=lr, momentum=momentum, decay=decay))

    @torch.no_grad()
    def step(self, rank, ranks):
        """The ranks share the work, which is considerable: each makes some of the matrices'
        steps, and all get all of them."""
        group = self.param_groups[0]
        steps = []
        for i, p in enumerate(group["params"]):
            state = self.state[p]
            if "m" not in state:
                state["m"] = torch.zeros_like(p)
            state["m"].lerp_(p.grad, 1 - group["momentum"])
            mine = i % ranks == rank
            ahead = p.grad.lerp(state["m"], group["momentum"]) if mine else None
            steps.append(orthogonal(ahead) if mine else torch.zeros_like(p))
        if ranks > 1:
            flat = torch.cat([s.reshape(-1) for s in steps])
            dist.all_reduce(flat)
            steps = [s.view_as(p) for s, p in
                     zip(flat.split([p.numel() for p in group["params"]]), group["params"])]
        for p, step in zip(group["params"], steps):
            p.mul_(1 - group["lr"] * group["decay"])
            p.add_(step, alpha=-group["lr"] * 0.2 * math.sqrt(max(p.shape)))


def optimizers(model):
    matrices, slow, other = [], [], []
    for name, p in model.named_parameters():
        if ".layers." in name and p.dim() == 2:
            matrices.append(p)
        elif "patch_dense.weight" in name or "embed_audio" in name:
            slow.append(p)
        else:
            other.append(p)
    # The filters of pictures and sounds begin as good ones and have many inputs: small steps.
    adam = torch.optim.AdamW(
        [{"params": other, "lr": LR_OTHER, "k": 1.0}, {"params": slow, "lr": LR_OTHER / 5, "k": 0.2}],
        betas=(0.9, 0.98), weight_decay=0.0, eps=1e-10)
    return Muon(matrices, LR_MATRIX), adam


def step_back(_):
    """What makes samples uses the time in which ranks wait for each other."""
    os.nice(15)


def rate(step, cool_from, cool_steps):
    r = min(1.0, (step + 1) / WARMUP)
    if cool_from is not None:
        r *= max(0.0, 1.0 - (step - cool_from) / max(1, cool_steps))
    return r


class Run:
    def __init__(self, args, rank):
        self.a, self.rank = args, rank
        self.folder = Path(args.work) / "train"
        self.folder.mkdir(parents=True, exist_ok=True)
        speller = data.Speller(args.work)
        self.spelling = guesses.Spelling(speller)
        self.device = args.device
        self.model = net.build(speller.vocab).to(self.device).train()
        self.ema = {n: p.detach().clone() for n, p in self.model.named_parameters()}
        self.muon, self.adam = optimizers(self.model)
        self.step, self.seen, self.seconds, self.cool_from, self.cool_steps = 0, 0, 0.0, None, 0
        last = self.folder / "last.pt"
        if last.exists():
            self.load(last)
        elif args.start:
            weights.fill(self.model, Path(args.start))
            self.ema = {n: p.detach().clone() for n, p in self.model.named_parameters()}
            self.save("cooled-0.pt")  # it is the end of a cooldown, or a mean of some

    def load(self, path):
        s = torch.load(path, map_location=self.device, weights_only=True)
        with torch.no_grad():
            for n, p in self.model.named_parameters():
                p.copy_(s["weights"][n])
        self.ema = {n: t.to(self.device).clone() for n, t in s["ema"].items()}
        self.muon.load_state_dict(s["muon"])
        self.adam.load_state_dict(s["adam"])
        self.step, self.seen, self.seconds = s["step"], s["seen"], s["seconds"]
        self.cool_from, self.cool_steps = s["cool_from"], s["cool_steps"]
        if self.rank == 0:
            print(f"resumed at step {self.step}, {self.seen / 1e6:.2f} M tokens", flush=True)

    def save(self, name):
        if self.rank:
            return
        state = dict(weights={n: p.detach() for n, p in self.model.named_parameters()}, ema=self.ema,
                     muon=self.muon.state_dict(), adam=self.adam.state_dict(), step=self.step,
                     seen=self.seen, seconds=self.seconds, cool_from=self.cool_from,
                     cool_steps=self.cool_steps)
        torch.save(state, self.folder / "new.pt")
        os.replace(self.folder / "new.pt", self.folder / name)

    def one_step(self, batch):
        batch = {k: v.to(self.device, non_blocking=True) if torch.is_tensor(v) else v
                 for k, v in batch.items()}
        quick, many = self.device == "cpu", len(batch["guess"])
        if many:
            near = 0.0
            for loss, nearness in guesses.losses(self.model, self.spelling, batch, quick):
                (loss / (many * self.a.parts)).backward()
                near += nearness / many
            return near
        with torch.autocast("cuda", torch.bfloat16, enabled=self.device == "cuda"):
            loss = net.mean_loss(self.model, batch, quick)
        (loss / self.a.parts).backward()
        return loss.item()

    def gather(self, count, halt):
        """Adds the gradients of all ranks, with the number of tokens and the wish to stop."""
        for p in self.model.parameters():
            if p.grad is None:
                p.grad = torch.zeros_like(p)
        if self.a.ranks == 1:
            return count, halt
        grads = [p.grad for p in self.model.parameters()]
        flat = torch.cat([g.view(-1) for g in grads] + [torch.tensor([float(count), float(halt)])])
        dist.all_reduce(flat)
        at = 0
        for g in grads:
            g.copy_(flat[at:at + g.numel()].view_as(g) / self.a.ranks)
            at += g.numel()
        return int(flat[-2]), bool(flat[-1])

    def update(self):
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        r = self.a.rate * rate(self.step, self.cool_from, self.cool_steps)
        self.muon.param_groups[0]["lr"] = LR_MATRIX * r
        for g in self.adam.param_groups:
            g["lr"] = LR_OTHER * g["k"] * r
        self.muon.step(self.rank, self.a.ranks)
        self.adam.step()
        self.model.zero_grad(set_to_none=True)
        with torch.no_grad():
            keep = min(EMA, (1 + self.step) / (10 + self.step))
            for n, p in self.model.named_parameters():
                self.ema[n].lerp_(p, 1 - keep)

    def log(self, losses, began):
        if self.rank:
            return
        means = {k: sum(v) / len(v) for k, v in losses.items() if v}
        path = self.folder / "log.csv"
        if not path.exists():
            path.write_text("step,tokens,seconds,tokens_per_second,losses\n")
        speed = (self.seen - began[0]) / max(1e-9, self.seconds - began[1])
        text = " ".join(f"{k}={v:.3f}" for k, v in sorted(means.items()))
        with path.open("a") as f:
            f.write(f"{self.step},{self.seen},{self.seconds:.0f},{speed:.0f},{text}\n")
        print(f"step {self.step:6d}  {self.seen / 1e6:7.2f} M tokens  {self.seconds / 3600:5.2f} h"
              f"  {speed:6.0f} tok/s  {text}", flush=True)

    def go(self):
        a = self.a
        if a.steps and self.step >= a.steps:
            return self.log({}, (self.seen, self.seconds))  # it was stopped before it could say so
        if self.cool_from is not None and self.step >= self.cool_from + self.cool_steps:
            self.cool_from = None  # that one is over
        if a.cooldown and self.cool_from is None:
            self.cool_from, self.cool_steps = self.step, a.cooldown
        end = a.steps if a.steps else math.inf
        if self.cool_from is not None:
            end = self.cool_from + self.cool_steps
        mixture = {k: float(v) for k, v in (p.split("=") for p in a.mixture.split(","))}
        if self.rank == 0:
            (self.folder / f"mixture-{self.step}.json").write_text(json.dumps(mixture) + "\n")
        per_batch = a.tokens // (a.parts * a.ranks)
        source = data.Batches(a.work, f"{self.step} {self.rank}", mixture, per_batch, a.longest, a.rules)
        workers = a.workers if self.device == "cuda" else 1
        ahead = 4 if workers else None  # without workers it may not be given
        batches = iter(torch.utils.data.DataLoader(source, batch_size=None, num_workers=workers, prefetch_factor=ahead,
                                                   worker_init_fn=step_back))
        losses, began, saved, at = {}, (self.seen, self.seconds), time.time(), time.time()
        first, halt = time.time(), False
        while self.step < end and not halt:
            count = 0
            # Guesses are drawn by chance (guesses.py); unseeded, all ranks and all starts would draw the same.
            torch.manual_seed(1000 * self.step + self.rank)
            with weights.as_shipped(self.model):
                for _ in range(a.parts):
                    kind, batch = next(batches)
                    losses.setdefault(kind, []).append(self.one_step(batch))
                    count += batch["ids"].numel()
            halt = time.time() - first > a.hours * 3600 or (self.folder / "stop").exists()
            count, halt = self.gather(count, halt)
            self.seen += count
            self.update()
            self.step += 1
            self.seconds += time.time() - at
            at = time.time()
            if time.time() - saved > a.save_every or self.step in (1, 10, 50):
                self.save("last.pt")
                self.log(losses, began)
                losses, began, saved = {}, (self.seen, self.seconds), time.time()
        # In this order: whoever is stopped in between repeats some steps and misses nothing.
        if self.cool_from is not None and self.step >= end:
            self.save(f"cooled-{self.step}.pt")
        self.save("last.pt")
        self.log(losses, began)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("work")
    p.add_argument("--steps", type=int, default=0, help="stop at this step (0: no limit)")
    p.add_argument("--hours", type=float, default=1e9)
    p.add_argument("--cooldown", type=int, default=0)
    p.add_argument("--start", help="folder of a shipped model; a run without a checkpoint begins with it")
    p.add_argument("--mixture", required=True, help="kind=share,...; shares are of tokens")
    p.add_argument("--rate", type=float, default=1.0, help="of learning, less for small steps")
    p.add_argument("--tokens", type=int, default=8192, help="of one step")
    p.add_argument("--parts", type=int, default=4, help="batches of one step")
    p.add_argument("--longest", type=int, default=900, help="longest sample, in tokens")
    p.add_argument("--rules", type=float, default=0.1, help="share of prompts with their system turn")
    p.add_argument("--device", default="auto")
    p.add_argument("--ranks", type=int, default=2, help="processes, on a CPU")
    p.add_argument("--workers", type=int, default=12, help="that make samples for a GPU")
    p.add_argument("--save-every", type=float, default=SAVE_EVERY)
    a = p.parse_args()
    if a.device == "auto":
        a.device = "cuda" if torch.cuda.is_available() else "cpu"
    if a.device != "cpu":
        a.ranks = 1
    data.Samples(a.work, a.longest).prepare()
    if a.ranks == 1:
        return work(0, a)
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(work, (a, folder), nprocs=a.ranks)


def work(rank, a, folder=None):
    torch.set_float32_matmul_precision("high")
    if a.ranks > 1:
        torch.set_num_threads(1)
        dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank,
                                world_size=a.ranks, timeout=datetime.timedelta(hours=2))
    Run(a, rank).go()
    if a.ranks > 1:
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
