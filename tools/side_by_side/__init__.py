"""The two ends of `tools/spu_side_by_side.py`: one worker in the environment of SPU, one in that of this repository."""
