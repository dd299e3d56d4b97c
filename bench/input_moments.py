"""What the linear layers of a model are multiplied by, taken by forward hooks: mean of x x^T over all tokens, for each distinct input. Used by
the benchmarks of quality; needs torch and safetensors."""

import json

import torch
from safetensors.torch import save_file


class Inputs:
    """For each input, named by the first weight that has it: `weights`, `hessian` (float64 [in, in], the mean of x x^T) and `count` of tokens."""

    def __init__(self, model, chosen=lambda name: True):
        self.weights, self.hessian, self.count = {}, {}, {}
        self.layers = {name: module for name, module in model.named_modules() if isinstance(module, torch.nn.Linear) and chosen(name)}
        self.mask = None  # of the batch that runs: True where a token is real
        self._last = None
        self._hooks = [module.register_forward_hook(self._hook(f"{name}.weight")) for name, module in self.layers.items()]

    def _hook(self, name):
        def take(module, arguments, output):
            x = arguments[0]
            # Query, key and value get the same tensor, one after the other.
            if self._last is None or self._last[0] is not x:
                self._last = (x, name)
                rows = x.detach().reshape(-1, x.shape[-1])
                rows = (rows[self.mask.reshape(-1)] if self.mask is not None else rows).float()
                product = (rows.T @ rows).double()
                self.hessian[name] = self.hessian.get(name, 0) + product
                self.count[name] = self.count.get(name, 0) + len(rows)
            source = self._last[1]
            if name not in self.weights.setdefault(source, []):
                self.weights[source].append(name)

        return take

    def close(self):
        for hook in self._hooks:
            hook.remove()
        self._last = None
        for name in self.hessian:
            self.hessian[name] /= self.count[name]

    def save(self, path, provenance):
        """A calibration file (docs/calibration.md)."""
        tensors = {}
        for source, hessian in self.hessian.items():
            tensors[f"{source}.hessian"] = hessian.float().cpu().contiguous()
            tensors[f"{source}.second_moments"] = tensors[f"{source}.hessian"].diagonal().clone()
            tensors[f"{source}.count"] = torch.tensor([self.count[source]])
        weights = {weight: source for source, names in self.weights.items() for weight in names}
        save_file(tensors, path, metadata={"q4_calibration": "1", "weights": json.dumps(weights), "provenance": json.dumps(provenance)})

    def of(self, weight):
        """The hessian of the input of a weight."""
        return self.hessian[next(source for source, weights in self.weights.items() if weight in weights)]


def measured(model, batches, mask_key=None, chosen=lambda name: True):
    """Inputs of the linear layers over batches of keyword arguments; `mask_key` names the one that says which tokens are real."""
    inputs = Inputs(model, chosen)
    with torch.no_grad():
        for batch in batches:
            inputs.mask = batch[mask_key].bool() if mask_key else None
            model(**batch)
    inputs.close()
    return inputs
