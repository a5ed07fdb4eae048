"""Writes the rows of paired.py as a table, and the rows of `planes` as a picture.

    python benches/peers/report.py paired.json benches/results/cpu-paired.md "title, machine, date, commit"
    python benches/peers/report.py paired.json benches/results/cpu-planes.svg
"""

import json
import math
import pathlib
import sys

PEERS_COLOURS = {
    "ours": "#c0392b",
    "copy": "#7f8c8d",
    "F.instance_norm": "#2980b9",
    "F.group_norm": "#8e44ad",
}


def sizes(row):
    return "x".join(map(str, row["shape"]))


def table(rows, title):
    text = [
        f"# {title}",
        "",
        "Milliseconds, each the median of its turns in `benches/peers/paired.py`, which says what they are.",
        "`best peer / ours` is the median of the turns' ratios; above 1 ours is faster. `kept`: with allocators",
        "that keep what is freed.",
        "",
        "| op | shape | dtype | direction | memory | best peer / ours | ours | copy | peers |",
        "|---|---|---|---|---|---:|---:|---:|---|",
    ]
    for row in rows:
        ms = row["ms"]
        peers = ", ".join(f"{name} {ms[name]:.4f}" for name in ms if name not in ("ours", "copy"))
        ratio = f"{row['ratio']:.2f}" if row["ratio"] else "-"
        cells = [row["op"], sizes(row), row["dtype"], row["direction"], row["memory"], ratio]
        text.append("| " + " | ".join(cells + [f"{ms['ours']:.4f}", f"{ms['copy']:.4f}", peers]) + " |")
    return "\n".join(text) + "\n"


def picture(rows):
    """Nanoseconds an element over the elements of a plane, f32 beside bf16, both axes in octaves."""
    rows = [row for row in rows if row["op"] == "planes" and row["memory"] == "kept"]
    per_element = lambda row, name: 1e6 * row["ms"][name] / math.prod(row["shape"])
    values = [per_element(row, name) for row in rows for name in PEERS_COLOURS if name in row["ms"]]
    low, high = math.log2(min(values)) - 0.3, math.log2(max(values)) + 0.3
    width, height, left, top = 380, 300, 60, 50
    parts = []
    for column, dtype in enumerate(("f32", "bf16")):
        x0 = left + column * (width + 60)
        x = lambda length: x0 + (math.log2(length) - 4) / 16 * width
        y = lambda value: top + (high - math.log2(value)) / (high - low) * height
        parts.append(f'<text x="{x0}" y="{top - 12}" font-weight="bold">{dtype}</text>')
        for octave in range(4, 21, 4):
            at = x(2**octave)
            parts.append(f'<path d="M{at:.1f} {top}V{top + height}" stroke="#ddd"/>')
            parts.append(f'<text x="{at:.1f}" y="{top + height + 18}" text-anchor="middle">{2**octave}</text>')
        for octave in range(math.ceil(low), math.floor(high) + 1):
            at = y(2.0**octave)
            parts.append(f'<path d="M{x0} {at:.1f}H{x0 + width}" stroke="#ddd"/>')
            parts.append(f'<text x="{x0 - 6}" y="{at + 4:.1f}" text-anchor="end">{2.0**octave:g}</text>')
        for name, colour in PEERS_COLOURS.items():
            of = sorted((row["shape"][2], per_element(row, name)) for row in rows if row["dtype"] == dtype and name in row["ms"])
            points = " ".join(f"{x(length):.1f},{y(value):.1f}" for length, value in of)
            parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
    for index, (name, colour) in enumerate(PEERS_COLOURS.items()):
        at = left + 150 * index
        parts.append(f'<path d="M{at} {top + height + 58}h22" stroke="{colour}" stroke-width="3"/>')
        parts.append(f'<text x="{at + 28}" y="{top + height + 62}">{name}</text>')
    middle = left + width + 30
    parts.append(f'<text x="{middle}" y="20" text-anchor="middle">Nanoseconds an element, forward, 2^24 elements</text>')
    parts.append(f'<text x="{middle}" y="{top + height + 38}" text-anchor="middle">elements of a plane</text>')
    size = (2 * width + 140, top + height + 80)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size[0]} {size[1]}" font-family="sans-serif" font-size="12">'
    return "\n".join([head, f'<rect width="{size[0]}" height="{size[1]}" fill="#fff"/>', *parts, "</svg>"]) + "\n"


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    rows = json.loads(pathlib.Path(sys.argv[1]).read_text())
    output = pathlib.Path(sys.argv[2])
    title = sys.argv[3] if len(sys.argv) > 3 else "Ours and its peers in turns"
    output.write_text(picture(rows) if output.suffix == ".svg" else table(rows, title))


if __name__ == "__main__":
    main()
