"""Source models that come with the package (docs/sources.md): ``NAME.safetensors``, read as ``tenshot:NAME``."""
