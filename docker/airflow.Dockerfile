# Every Airflow service of docker-compose.yaml, and the jobs that its process launcher starts.
#
# Not based on apache/airflow, which has other versions of the packages that Beam, the replay and the Google provider
# share: untested ones would run. requirements.lock gives laptop, tests and images the same packages, by hash.
FROM python:3.11.14-slim-bookworm

RUN pip install --no-cache-dir uv==0.13.9 \
    && useradd --uid 10001 --create-home rejeu \
    && install --directory --owner=rejeu /var/lib/rejeu

WORKDIR /opt/rejeu
COPY pyproject.toml requirements.lock docker/images.lock ./
# Only the dependencies: compose mounts plugins/, dags/ and beam_jobs/, and the cloud installs the wheel, never both.
RUN uv pip install --system --no-cache --compile-bytecode --constraint requirements.lock --constraint images.lock \
    --requirements pyproject.toml --extra airflow --extra launchers --extra replay --extra beam \
    asyncpg psycopg2-binary

COPY --chmod=755 docker/healthy docker/init-airflow /usr/local/bin/

ENV PYTHONPATH=/opt/rejeu/plugins:/opt/rejeu \
    PYTHONUNBUFFERED=1
USER 10001
CMD ["airflow", "version"]
