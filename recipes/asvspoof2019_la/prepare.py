"""Check the corpus against its protocols; see ``common/preparing.py``.

python prepare.py --data_folder DATA
"""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "common"))

from preparing import main

if __name__ == "__main__":
    main("asvspoof2019_la", sys.argv[1:])
