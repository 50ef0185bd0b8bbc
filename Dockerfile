# One image for each service, and the sandbox: `make images` builds them all, `docker build --build-arg SERVICE=order .`
# builds one. BASE_IMAGE is any Debian with Python 3.11 or newer; the Makefile makes one where no registry is.
ARG BASE_IMAGE=python:3.11-slim-bookworm

# What builds: uv, and what requirements.lock says of a wheel's builder and the bill of materials. Nothing of it stays.
FROM ${BASE_IMAGE} AS tools
ARG UV_VERSION=0.13.9
ARG SOURCE_DATE_EPOCH=0
ENV SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH} UV_LINK_MODE=copy UV_PYTHON_DOWNLOADS=never UV_NO_PROGRESS=1 PATH=/tools/bin:$PATH
WORKDIR /build
COPY requirements.lock ./
# The secret `ca` is a bundle of certificates, for a machine whose registries are reached through a proxy of its own.
# Debian's Python has no pip until python3-venv is there.
RUN --mount=type=secret,id=ca --mount=type=cache,target=/root/.cache/uv set -eu; \
    [ ! -f /run/secrets/ca ] || export SSL_CERT_FILE=/run/secrets/ca PIP_CERT=/run/secrets/ca; \
    python3 -c 'import ensurepip' 2>/dev/null || { \
      apt-get -qq update; DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends python3-venv >/dev/null; }; \
    python3 -m venv /tools; pip install --quiet --no-cache-dir --disable-pip-version-check "uv==$UV_VERSION"; \
    printf 'hatchling\ncyclonedx-bom\n' | uv pip compile --quiet - --constraint requirements.lock --output-file tools.txt; \
    VIRTUAL_ENV=/tools uv pip install --quiet --require-hashes --requirements tools.txt --constraint requirements.lock

# What the service is made of: its wheel, the chassis' (the sandbox has none), and the packages that they need, by name
# and version. As long as those stay the same, the next stage's packages are the last build's.
FROM tools AS wheels
ARG SERVICE
COPY libs/chassis chassis
COPY services ./
COPY sandbox sandbox
RUN --mount=type=secret,id=ca --mount=type=cache,target=/root/.cache/uv set -eu; \
    [ ! -f /run/secrets/ca ] || export SSL_CERT_FILE=/run/secrets/ca; \
    for member in $([ "$SERVICE" = sandbox ] || echo chassis) "$SERVICE"; do \
      uv build --quiet --wheel --no-build-isolation --python /tools/bin/python --no-sources --out-dir /wheels "$member"; \
    done; \
    mkdir /packages; \
    printf '%s\n' /wheels/*.whl | uv pip compile --quiet --no-annotate --no-header - --constraint requirements.lock \
      --no-emit-package chassis --no-emit-package "$SERVICE" --output-file /packages/requirements.txt

FROM tools AS environment
COPY --from=wheels /packages /packages
# Every package has to be one whose hash requirements.lock has.
RUN --mount=type=secret,id=ca --mount=type=cache,target=/root/.cache/uv set -eu; \
    [ ! -f /run/secrets/ca ] || export SSL_CERT_FILE=/run/secrets/ca; \
    uv venv --quiet --python "$(PATH=/usr/local/bin:/usr/bin:/bin command -v python3)" /app; \
    VIRTUAL_ENV=/app uv pip install --quiet --require-hashes \
      --requirements /packages/requirements.txt --constraint requirements.lock
COPY --from=wheels /wheels /wheels
# The root file system will be read-only, so all is compiled now. By hash, unchecked: files have the times that
# SOURCE_DATE_EPOCH says, by which Python would take them for changed.
RUN set -eu; \
    VIRTUAL_ENV=/app uv pip install --quiet --no-cache --no-deps /wheels/*.whl; \
    python -m compileall -q --invalidation-mode unchecked-hash /app/lib; \
    mkdir /sbom; cp /var/lib/dpkg/status /sbom; \
    cyclonedx-py environment --output-reproducible --output-file /sbom/packages.json /app/bin/python

# What the bill of materials is made from, for `--target=sbom --output=…`.
FROM scratch AS sbom
COPY --from=environment /sbom /

FROM ${BASE_IMAGE}
ARG SERVICE
ARG VERSION=0.1.0
ARG REVISION=unknown
ARG CREATED=1970-01-01T00:00:00Z
LABEL org.opencontainers.image.title="brewline/${SERVICE}" \
      org.opencontainers.image.description="Brewline's ${SERVICE}: runs beside a Dapr sidecar" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}"
RUN echo 'brewline:x:10001:10001::/tmp:/usr/sbin/nologin' >>/etc/passwd && echo 'brewline:x:10001:' >>/etc/group
COPY --from=environment /app /app
ENV PATH=/app/bin:$PATH HOME=/tmp PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 SERVICE=${SERVICE}
WORKDIR /tmp
USER 10001:10001
CMD ["sh", "-c", "exec python -m $SERVICE.main"]
