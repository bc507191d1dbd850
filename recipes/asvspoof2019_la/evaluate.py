"""Score and judge a trained system; see ``common/evaluating.py``.

python evaluate.py --model results/aasist/1234 --data_folder LA --part eval
"""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "common"))

from evaluating import main

if __name__ == "__main__":
    main("asvspoof2019_la", sys.argv[1:])
