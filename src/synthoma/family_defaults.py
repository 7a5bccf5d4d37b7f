"""What each family's authors (or the seeds) train it with: filled in where a recipe is silent."""

from typing import Any

# The families whose first width belongs to the base grid: no norm, and no tanh.
FROM_A_GRID: dict[str, Any] = {
    "generator_widths": [128, 128, 128, 64, 32],
    "discriminator_widths": [32, 64, 128, 128, 128],
    "output": "linear",
    "generator_norm": "none",
    "discriminator_norm": "none",
}

DEFAULTS: dict[str, dict[str, dict[str, Any]]] = {
    # The chest-CT project's first trial: fully connected layers.
    "mlp": {
        "model": {
            "generator_widths": [128, 256, 512, 1024],
            "discriminator_widths": [512, 256],
            "discriminator_norm": "none",
        },
    },
    "dcgan": {},
    "cgan": {"model": {"conditions": ["class"]}},
    # Arjovsky et al. 2017, algorithm 1.
    "wgan": {
        "training": {
            "loss": "wasserstein",
            "clip": 0.01,
            "critic_steps": 5,
            "optimizer": "rmsprop",
            "learning_rate": 5e-5,
        },
    },
    # Gulrajani et al. 2017, algorithm 1; no batch norm in the critic.
    "wgan-gp": {
        "model": {"discriminator_norm": "none"},
        "training": {
            "loss": "wasserstein",
            "penalties": {"gradient": 10.0},
            "critic_steps": 5,
            "learning_rate": 1e-4,
            "beta1": 0.5,
            "beta2": 0.9,
        },
    },
    # Karras et al. 2018.
    "pggan": {
        "model": {
            **FROM_A_GRID,
            "minibatch_stddev": 4,
        },
        "training": {
            "loss": "wasserstein",
            "penalties": {"gradient": 10.0, "drift": 0.001},
            "learning_rate": 1e-3,
            "beta1": 0.0,
            "beta2": 0.99,
        },
    },
    # Karras et al. 2020.
    "style": {
        "model": {
            **FROM_A_GRID,
            "minibatch_stddev": 4,
            "conditioning": "projection",
        },
        "training": {
            "penalties": {"r1": 1.0, "path_length": 2.0},
            "lazy": {"r1": 16, "path_length": 4},
            "learning_rate": 2.5e-3,
            "beta1": 0.0,
            "beta2": 0.99,
        },
    },
    # Huang et al. 2024.
    "r3": {
        "model": {
            "latent": 64,
            **FROM_A_GRID,
            "conditioning": "projection",
        },
        "training": {
            "loss": "relativistic",
            "penalties": {"r1": 1.0, "r2": 1.0},
            "learning_rate": {"start": 2e-4, "end": 5e-5},
            "beta1": 0.0,
            "beta2": {"start": 0.9, "end": 0.99},
        },
    },
}


def with_family_defaults(values: dict[str, Any]) -> dict[str, Any]:
    """A recipe's values with those of its family where it has none; an unknown family gets nothing filled in."""
    model = values.get("model") or {}
    if not isinstance(model, dict):
        return values
    filled = dict(values)
    for section, defaults in DEFAULTS.get(str(model.get("family", "dcgan")), {}).items():
        given = values.get(section) or {}
        if isinstance(given, dict):
            filled[section] = {**defaults, **given}
    return filled
