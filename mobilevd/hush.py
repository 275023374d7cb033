"""Libraries' remarks to their own developers, kept off the user's terminal."""

from __future__ import annotations

import logging
import warnings


def hush() -> None:
    """Call it before they are imported, which is when they make them."""
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.|copyreg")
    for name in ("torch.utils._pytree", "diffusers.quantizers.torchao.torchao_quantizer"):
        logging.getLogger(name).setLevel(logging.ERROR)
