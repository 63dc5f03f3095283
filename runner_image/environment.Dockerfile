# What every runner needs and what changes rarely: Python, the data packages, the libraries of the runner, uv and fonts.
# Building it takes the network. Index URLs, credentials and certificates are known to the stage `build` only, of which
# nothing remains. Builds with the classic builder as with BuildKit, on Debian-based images that have Python with venv.

ARG BASE=python:3.13-slim


FROM ${BASE} AS build
LABEL mcp-agentrun.image=build
USER 0

ARG UV_DEFAULT_INDEX
ARG UV_INDEX

COPY ca-bundle.pem constraints.txt requirements.txt tools.txt /build/

RUN set -eu; \
    if [ -s /build/ca-bundle.pem ]; then export SSL_CERT_FILE=/build/ca-bundle.pem PIP_CERT=/build/ca-bundle.pem; fi; \
    if [ -n "${UV_DEFAULT_INDEX:-}" ]; then export PIP_INDEX_URL="$UV_DEFAULT_INDEX"; fi; \
    if [ -n "${UV_INDEX:-}" ]; then export PIP_EXTRA_INDEX_URL="$UV_INDEX"; fi; \
    python3 -m venv /build/tools; \
    /build/tools/bin/python -m pip install -q --no-cache-dir --no-compile --disable-pip-version-check \
        --only-binary :all: --require-hashes -r /build/tools.txt; \
    export UV_NO_CACHE=1; \
    /build/tools/bin/uv venv -q --python "$(command -v python3)" /opt/venv; \
    /build/tools/bin/uv pip install -q --python /opt/venv/bin/python --only-binary :all: \
        -c /build/constraints.txt -r /build/requirements.txt

# The libraries that the runner uses, which user code does not import.
RUN set -eu; \
    cd "$(/build/tools/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"; \
    mkdir -p /build/agentrun/licenses; \
    for name in packaging RestrictedPython; do \
        cp -r "$name" /build/agentrun/; \
        find . -maxdepth 1 -iname "$name-*.dist-info" -exec cp -r {} /build/agentrun/licenses/ \;; \
    done

# The tests of these three are a third of their size.
RUN set -eu; \
    cd "$(/opt/venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"; \
    for package in numpy pandas matplotlib; do \
        if [ -d "$package" ]; then find "$package" -type d -name tests -prune -exec rm -rf {} +; fi; \
    done

# For matplotlib, two fonts of 5 MB together: MotoyaLCedar for Japanese, Droid Sans Fallback for Chinese and Korean.
# Without Debian's mirror the image is complete but for these.
RUN set -eu; \
    cd /build; \
    mkdir -p fonts; \
    if ! /opt/venv/bin/python -c 'import matplotlib' 2>/dev/null; then exit 0; fi; \
    options="-qq -o APT::Sandbox::User=root -o Acquire::Retries=2 -o Acquire::http::Timeout=15"; \
    if apt-get $options update && apt-get $options download fonts-motoya-l-cedar fonts-droid-fallback; then \
        for package in *.deb; do dpkg -x "$package" unpacked; done; \
        cp unpacked/usr/share/fonts/truetype/motoya-l-cedar/MTLc3m.ttf \
            unpacked/usr/share/fonts-droid-fallback/truetype/DroidSansFallback.ttf fonts/; \
        mkdir fonts/licenses; \
        for package in fonts-motoya-l-cedar fonts-droid-fallback; do \
            cp "unpacked/usr/share/doc/$package/copyright" "fonts/licenses/$package"; \
        done; \
    else \
        echo "warning: Debian's mirror can't be reached, so plots will lack Chinese, Japanese and Korean characters"; \
    fi


# The root file system that remains, with everything taken away that only an administrator or an installer needs.
FROM ${BASE} AS rootfs
LABEL mcp-agentrun.image=build
USER 0

# System libraries that well-known packages load and that no wheel brings (lightgbm, python-magic, cairosvg, pyzbar,
# weasyprint, pyvista, opencv-python, pyodbc, psycopg), 40 MB together. libgl1 without what it depends on: that would be 200 MB of drivers.
# Without Debian's mirror the image is complete but for these.
RUN set -eu; \
    options="-qq -o APT::Sandbox::User=root -o Acquire::Retries=2 -o Acquire::http::Timeout=15"; \
    export DEBIAN_FRONTEND=noninteractive; \
    mkdir /tmp/gl; \
    cd /tmp/gl; \
    if apt-get $options update \
        && apt-get $options install -y --no-install-recommends libgomp1 libmagic1 libcairo2 libzbar0 libpango-1.0-0 \
            libpangoft2-1.0-0 libharfbuzz-subset0 libglib2.0-0 libxrender1 libxext6 libsm6 libodbc2 libpq5 \
        && apt-get $options download libgl1 libglx0 libglvnd0; then \
        for package in *.deb; do dpkg -x "$package" /; done; \
        ldconfig; \
    else \
        echo "warning: Debian's mirror can't be reached, so some packages will lack system libraries"; \
    fi

COPY --from=build /opt/venv /opt/venv
COPY --from=build /build/tools/bin/uv /usr/local/bin/uv
COPY --from=build /build/agentrun /opt/agentrun
COPY --from=build /build/fonts /usr/share/fonts/truetype/mcp-agentrun
COPY prepare_matplotlib.py /tmp/

RUN set -eu; \
    python="/opt/venv/bin/python -I -B"; \
    stdlib="$($python -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')"; \
    rm -rf "$stdlib/ensurepip" "$stdlib/idlelib" "$stdlib/tkinter" "$stdlib/turtledemo" "$stdlib/test" \
        "$stdlib"/site-packages/* "$stdlib"/config-*/*.a /usr/local/bin/pip* /usr/local/bin/idle* /usr/share/python-wheels \
        /usr/lib/python3/dist-packages/setuptools* /usr/lib/python3/dist-packages/pip* \
        /usr/share/doc /usr/share/info /usr/share/lintian /usr/share/locale /usr/share/man \
        /var/cache/* /var/lib/apt/lists/* /var/log/* /root/.cache; \
    $python -m compileall -q -j 0 "$stdlib" /opt/venv/lib --invalidation-mode unchecked-hash; \
    mkdir -p /opt/agentrun/home /workspace; \
    if $python -c 'import matplotlib' 2>/dev/null; then \
        HOME=/opt/agentrun/home $python /tmp/prepare_matplotlib.py \
            || echo "warning: this release of matplotlib can't be prepared, so the first plot of a session is slow"; \
    fi; \
    chmod -R a+rX,go-w /opt /usr/local/bin; \
    mkdir -p /packages; \
    chmod 0711 /packages; \
    chown 10002:10002 /packages; \
    rm -rf /tmp/*; \
    find / -xdev \( -type f -o -type d \) -perm /6000 -exec chmod ug-s {} +


FROM scratch AS environment
LABEL mcp-agentrun.image=environment
COPY --from=rootfs / /
ENV PATH=/opt/venv/bin:/usr/local/bin:/usr/bin:/bin \
    LANG=C.UTF-8 \
    HOME=/tmp/home \
    MPLBACKEND=agg \
    PYTHONDONTWRITEBYTECODE=1
