"""Training: corpora on disk, channel augmentation, losses, the SpeechBrain loop.

Everything here needs ``pip install "voiceguard[train]"`` and is what ``recipes/`` are made of.
"""
