# The workers of the streaming and batch jobs on Dataflow, as `--sdk_container_image`. On one machine it runs a job:
#   docker run --entrypoint python IMAGE -m beam_jobs.stream --stream ...
FROM apache/beam_python3.11_sdk:2.77.0 AS sdk


FROM python:3.11.14-slim-bookworm AS build

# --seed: Beam's boot program asks for pip.
RUN pip install --no-cache-dir uv==0.13.9 \
    && uv venv --seed /opt/venv
ENV VIRTUAL_ENV=/opt/venv

WORKDIR /src
COPY pyproject.toml requirements.lock ./
RUN uv pip install --no-cache --compile-bytecode --constraint requirements.lock \
    --requirements pyproject.toml --extra beam
COPY README.md docker/images.lock ./
COPY plugins/rejeu plugins/rejeu
RUN uv build --no-cache --wheel --require-hashes --build-constraint images.lock --out-dir /dist \
    && uv pip install --no-cache --no-deps --compile-bytecode /dist/*.whl


# Not the SDK's image itself, whose packages are other versions than ours: Beam's documented way to bring one's own
# (https://beam.apache.org/documentation/runtime/environments/#modify-existing-base-image).
FROM python:3.11.14-slim-bookworm

RUN useradd --uid 10001 --create-home rejeu
COPY --from=sdk /opt/apache/beam /opt/apache/beam
COPY --from=build /opt/venv /opt/venv
COPY beam_jobs /opt/rejeu/beam_jobs

# Without the third, boot makes an environment of its own at each start, for which this user has no right.
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONPATH=/opt/rejeu \
    RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT=1
USER 10001
ENTRYPOINT ["/opt/apache/beam/boot"]
