"""Train a system; see ``common/training_run.py``.

python train.py hparams/aasist.yaml --data_folder LA
"""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "common"))

from training_run import main

if __name__ == "__main__":
    main("asvspoof2019_la", sys.argv[1:])
