"""Score and judge a trained system; see ``common/evaluating.py``.

python evaluate.py --model results/aasist/1234 --data_folder DATA --part eval
"""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "common"))

from evaluating import main

if __name__ == "__main__":
    main("asvspoof5", sys.argv[1:])
