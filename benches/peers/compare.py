"""Prints the times of benches/speed.rs and of pytorch.py side by side, as a Markdown table.

    python benches/peers/compare.py OURS.json TORCH.json

A ratio above 1 means that torch takes longer.
"""

import argparse
import json
import sys


def load(path):
    with open(path) as file:
        return json.load(file)


def key(row):
    return tuple(row["shape"]), row["dtype"], row["direction"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("ours", metavar="OURS.json")
    parser.add_argument("torch", metavar="TORCH.json")
    args = parser.parse_args()

    torch = {key(row): row["ours_ms"] for row in load(args.torch)}
    print("| op | shape | dtype | direction | ours ms | torch ms | torch / ours |")
    print("|---|---|---|---|---:|---:|---:|")
    missing = 0
    for row in load(args.ours):
        if key(row) not in torch:
            missing += 1
            continue
        ours, theirs = row["ours_ms"], torch[key(row)]
        shape = "x".join(map(str, row["shape"]))
        print(
            f"| {row['op']} | {shape} | {row['dtype']} | {row['direction']} "
            f"| {ours:.4f} | {theirs:.4f} | {theirs / ours:.2f} |"
        )
    if missing:
        print(f"{missing} rows of {args.ours} have no counterpart in {args.torch}", file=sys.stderr)


if __name__ == "__main__":
    main()
