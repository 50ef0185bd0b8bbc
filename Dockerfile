# One image for each service, and the sandbox: `make images` builds them all, `docker build --build-arg SERVICE=order .`
# builds one. BASE_IMAGE is any Debian with Python 3.11 or newer; `make images` makes one where no registry answers.
# What every service needs is a layer that all of them share: a new version of one is a few hundred kilobytes.
ARG BASE_IMAGE=python:3.11-slim-bookworm

# What builds, and stays behind: uv, and of requirements.lock the wheels' builder and what writes bills of materials.
# The secret `ca` is a bundle of certificates, where a registry is reached through a proxy with a certificate of its own.
FROM ${BASE_IMAGE} AS tools
ARG UV_VERSION=0.13.9
ARG SOURCE_DATE_EPOCH=315532800
ENV SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH} UV_LINK_MODE=copy UV_PYTHON_DOWNLOADS=never UV_NO_PROGRESS=1 \
    SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt PIP_CERT=/etc/ssl/certs/ca-certificates.crt
WORKDIR /build
COPY requirements.lock ./
# Debian's own Python has no pip before python3-venv is there.
RUN --mount=type=secret,id=ca,target=/etc/ssl/certs/ca-certificates.crt --mount=type=cache,target=/root/.cache/uv set -eu; \
    python3 -c 'import ensurepip' 2>/dev/null || { apt-get -qq update; \
      DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends python3-venv >/dev/null; }; \
    python3 -m venv /tools; \
    /tools/bin/pip install --quiet --no-cache-dir --disable-pip-version-check "uv==$UV_VERSION"; \
    ln -s /tools/bin/uv /usr/local/bin/; \
    printf 'hatchling\ncyclonedx-bom\n' | uv pip compile --quiet - --constraint requirements.lock --output-file tools.txt; \
    VIRTUAL_ENV=/tools uv pip install --quiet --require-hashes --requirements tools.txt --constraint requirements.lock

FROM tools AS chassis
COPY libs/chassis chassis
RUN --mount=type=secret,id=ca,target=/etc/ssl/certs/ca-certificates.crt --mount=type=cache,target=/root/.cache/uv set -eu; \
    uv build --quiet --wheel --no-build-isolation --python /tools/bin/python --no-sources --out-dir /wheels chassis; \
    mkdir /packages; \
    echo /wheels/chassis*.whl | uv pip compile --quiet --no-annotate --no-header - --constraint requirements.lock \
      --refresh-package chassis --no-emit-package chassis --output-file /packages/requirements.txt

# The chassis' packages; the same layer again as long as those are. Each has to be one whose hash requirements.lock has.
# The root file system will be read-only, so all is compiled now: by hash, unchecked, for files get the times that
# SOURCE_DATE_EPOCH says, by which Python would take them for changed.
FROM tools AS common
COPY --from=chassis /packages /packages
RUN --mount=type=secret,id=ca,target=/etc/ssl/certs/ca-certificates.crt --mount=type=cache,target=/root/.cache/uv set -eu; \
    uv venv --quiet --python "$(command -v python3)" /app; \
    VIRTUAL_ENV=/app uv pip install --quiet --require-hashes \
      --requirements /packages/requirements.txt --constraint requirements.lock; \
    /app/bin/python -m compileall -q --invalidation-mode unchecked-hash /app/lib; \
    rm -f /app/.lock

# What a service has beyond those, into /own. The sandbox has no chassis.
FROM common AS service
COPY --from=chassis /wheels /wheels
COPY services ./
COPY sandbox sandbox
ARG SERVICE
RUN --mount=type=secret,id=ca,target=/etc/ssl/certs/ca-certificates.crt --mount=type=cache,target=/root/.cache/uv set -eu; \
    [ "$SERVICE" != sandbox ] || rm /wheels/*; \
    uv build --quiet --wheel --no-build-isolation --python /tools/bin/python --no-sources --out-dir /wheels "$SERVICE"; \
    printf '%s\n' /wheels/*.whl | uv pip compile --quiet --no-annotate --no-header - --constraint requirements.lock \
      --refresh-package chassis --refresh-package "$SERVICE" --no-emit-package chassis --no-emit-package "$SERVICE" --output-file requirements.txt; \
    export VIRTUAL_ENV=/app; touch /begun; \
    uv pip install --quiet --require-hashes --requirements requirements.txt --constraint requirements.lock; \
    uv pip install --quiet --no-cache --no-deps --no-index --find-links /wheels $(cd /wheels; ls | cut -d- -f1); \
    find /app -cnewer /begun -name '*.py' | /app/bin/python -m compileall -q --invalidation-mode unchecked-hash -i -; \
    rm -f /app/.lock; \
    mkdir /own /sbom; cd /app; find . -cnewer /begun ! -type d -print0 | tar --create --null --files-from=- | tar --extract --directory=/own; \
    cp /var/lib/dpkg/status /sbom; \
    /tools/bin/cyclonedx-py environment --output-reproducible --output-file /sbom/packages.json /app/bin/python

# What a bill of materials is made from, for `--target=sbom --output=…`.
FROM scratch AS sbom
COPY --from=service /sbom /

FROM ${BASE_IMAGE}
RUN echo 'brewline:x:10001:10001::/tmp:/usr/sbin/nologin' >>/etc/passwd && echo 'brewline:x:10001:' >>/etc/group
ENV PATH=/app/bin:$PATH HOME=/tmp PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
WORKDIR /tmp
USER 10001:10001
CMD ["sh", "-c", "exec python -m $SERVICE.main"]
COPY --from=common /app /app
ARG SERVICE
COPY --from=service /own /app
ENV SERVICE=${SERVICE}
