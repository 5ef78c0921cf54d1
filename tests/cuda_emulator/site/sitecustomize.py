"""Installs the emulated GPU in each Python process with EMULATE_CUDA=1, including workers."""

import os
import sys
from pathlib import Path

if os.environ.get("EMULATE_CUDA"):
    sys.path.insert(0, str(Path(__file__).parents[3]))
    from tests.cuda_emulator.install import install

    install()
