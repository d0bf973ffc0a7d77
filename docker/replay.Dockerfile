# Only the replay: `docker run IMAGE --topic ... --event-time ...`; Cloud Run and Vertex AI run it, too.
FROM python:3.11.14-slim-bookworm AS build

RUN pip install --no-cache-dir uv==0.13.9 \
    && uv venv /opt/venv
ENV VIRTUAL_ENV=/opt/venv

WORKDIR /src
COPY pyproject.toml requirements.lock ./
RUN uv pip install --no-cache --compile-bytecode --constraint requirements.lock \
    --requirements pyproject.toml --extra replay
COPY README.md docker/images.lock ./
COPY plugins/rejeu plugins/rejeu
COPY beam_jobs beam_jobs
COPY spark_jobs spark_jobs
COPY dags dags
RUN uv build --no-cache --wheel --require-hashes --build-constraint images.lock --out-dir /dist \
    && uv pip install --no-cache --no-deps --compile-bytecode /dist/*.whl


FROM python:3.11.14-slim-bookworm

RUN useradd --uid 10001 --create-home rejeu \
    && install --directory --owner=rejeu /var/lib/rejeu
COPY --from=build /opt/venv /opt/venv
# What stands beside the specs: a module there is found as it is where Airflow runs.
COPY dags/streams /opt/rejeu/extensions

ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    REJEU_EXTENSIONS=/opt/rejeu/extensions
USER 10001
# Exec form: SIGTERM reaches the replay itself, which then saves its cursor and gives the lease up.
ENTRYPOINT ["python", "-m", "rejeu.replay"]
HEALTHCHECK --interval=10s --timeout=10s --start-period=60s CMD ["python", "-m", "rejeu.replay.health"]
