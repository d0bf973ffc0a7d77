# The servers of docker-compose.yaml that replace Google's: Pub/Sub, BigQuery, Cloud Storage and the metadata server.
FROM python:3.11.14-slim-bookworm

RUN pip install --no-cache-dir uv==0.13.9 \
    && useradd --uid 10001 --create-home rejeu \
    && install --directory --owner=rejeu /var/lib/bigquery /var/lib/storage

WORKDIR /opt/rejeu
COPY pyproject.toml requirements.lock ./
# The built-in Pub/Sub server uses the replay's protobuf types.
RUN uv pip install --system --no-cache --compile-bytecode --constraint requirements.lock \
    --requirements pyproject.toml --extra emulators --extra replay

COPY --chmod=755 docker/healthy /usr/local/bin/

ENV PYTHONPATH=/opt/rejeu/plugins \
    PYTHONUNBUFFERED=1
USER 10001
# Else bqemulator downloads it at each start; DuckDB keeps extensions in the user's home.
RUN ["python", "-c", "from duckdb_extensions import import_extension; import_extension('spatial')"]
CMD ["bqemulator", "--version"]
