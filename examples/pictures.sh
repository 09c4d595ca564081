#!/bin/sh
# Every picture of the documentation, made anew by the shipped models: sh examples/pictures.sh PHOTOS
# PHOTOS holds 0052.webp, 0123.webp, 0155.webp and 0185.webp of SFHQ and SFHQ-T2I; page.png needs Chromium.
set -e
photos=$(realpath "$1")
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'kill $server 2>/dev/null || true; rm -r "$work"' EXIT

python examples/demo.py docs/demo.png
python examples/photographs.py docs/photographs.jpg "$photos"/0052.webp "$photos"/0123.webp "$photos"/0155.webp "$photos"/0185.webp
eggan interpolate "$photos/0123.webp" -o docs/smile.webp --au 12=4 --au 6=2 --au 25=1 --steps 16
eggan interpolate "$photos/0123.webp" -o "$work/strip.png" --emotion happy
python -c '
import sys
from PIL import Image
strip = Image.open(sys.argv[1])
strip.convert("RGB").save("docs/strip.jpg", quality=90, xmp=strip.info["xmp"])  # with the record of the edit
' "$work/strip.png"

# The commands of docs/stimuli.md, which fill the table there.
sed -n '/^```$/,/^```$/p' docs/stimuli.md | sed '/^```$/d' > "$work/stimuli.sh"
ln -s "$PWD/data" "$work/data"
(cd "$work" && sh stimuli.sh)
mv "$work/row.png" docs/stimuli.png

eggan serve &
server=$!
until curl --silent --output "$work/page.html" http://127.0.0.1:7860; do sleep 1; done
python examples/page.py docs/page.png
