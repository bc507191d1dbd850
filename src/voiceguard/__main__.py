"""``python -m voiceguard``: the command line without its script."""

from __future__ import annotations

import sys

from voiceguard.cli.app import main

if __name__ == "__main__":
    sys.exit(main())
