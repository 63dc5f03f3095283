#!/bin/sh
# Make the pins of the image and of the examples anew. For runner_image/constraints.txt: the newest releases of what goes
# into the image by default, by version and hash. Needs uv; takes whatever index uv is set to, and names none.
#
# python-dateutil stays below 3: boto3 and many others do not allow a later one, and pandas works with it as well.
set -eu
cd "$(dirname "$0")/.."
file=runner_image/constraints.txt
{
    grep '^#' "$file"
    printf '%s\n' numpy pandas matplotlib 'python-dateutil<3' uv packaging RestrictedPython |
        uv pip compile -q --python-version 3.13 --python-platform linux --generate-hashes --no-header --no-annotate \
            --no-emit-index-url --no-emit-find-links - |
        sed 's/^\([^ ]*==[^ ]*\) \\$/\1 ; python_version == "3.13" \\/'
} >"$file.new"
mv "$file.new" "$file"

# The same for what the examples name, each of which has an environment of its own.
for example in $(grep -l '^# dependencies' examples/*.py); do
    python=$(sed -n 's/^# requires-python = ">=\(.*\)"/\1/p' "$example")
    newest=$(grep '^# dependencies' "$example" | grep -o '"[^"]*==' | tr -d '"=' |
        uv pip compile -q --python-version "$python" --no-header --no-annotate --no-emit-index-url --no-emit-find-links -)
    sed "/^# dependencies/{
        $(echo "$newest" | sed -n 's/^\([^ =]*\)==\([^ ]*\).*/s,"\1\\(\\[[^]]*]\\)*==[^"]*","\1\\1==\2",/p')
    }" "$example" >"$example.new"
    mv "$example.new" "$example"
done
