"""Makes the synthetic data set: ``python datasets/synthetic/prepare.py FOLDER`` (training makes it by itself)."""

import argparse
import sys

from nlnet.data.synthetic import prepare
from nlnet.errors import NlnetError

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", help="folder to write")
    parser.add_argument("--num-train", type=int, default=2000, help="training videos")
    parser.add_argument("--num-val", type=int, default=500, help="held-out videos")
    parser.add_argument("--frames", type=int, default=12, help="frames of a video")
    parser.add_argument("--size", type=int, default=32, help="height and width in pixels")
    parser.add_argument("--gap", type=int, default=6, help="frames between the two objects")
    parser.add_argument("--seed", type=int, default=0)
    try:
        prepare(**vars(parser.parse_args()))
    except NlnetError as error:
        print(f"prepare.py: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
