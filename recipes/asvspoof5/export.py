"""Write a trained network as a bundle; see ``common/exporting.py``.

python export.py --model results/aasist/1234 --out aasist-5 --licence LicenseRef-mine
"""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "common"))

from exporting import main

if __name__ == "__main__":
    main(sys.argv[1:])
