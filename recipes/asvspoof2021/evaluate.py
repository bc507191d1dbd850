"""Score and judge a system trained on another corpus; see ``common/evaluating.py``.

python evaluate.py --model MODEL --data_folder DATA --part LA --subset eval
"""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "common"))

from evaluating import main

if __name__ == "__main__":
    main("asvspoof2021", sys.argv[1:])
