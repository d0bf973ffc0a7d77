# The streaming jobs on Dataflow: the flex template that submits them, and (`--sdk_container_image`) their workers, so
# that both have the same packages. On one machine it runs a job:
#   docker run --entrypoint python IMAGE -m beam_jobs.stream --stream ...
FROM apache/beam_python3.11_sdk:2.77.0 AS sdk


FROM gcr.io/dataflow-templates-base/python311-template-launcher-base:20230622_RC00 AS launcher


FROM eclipse-temurin:17.0.15_6-jre-jammy AS java


FROM python:3.11.14-slim-bookworm AS build

# --seed: Beam's boot program needs pip.
RUN pip install --no-cache-dir uv==0.13.9 \
    && uv venv --seed /opt/venv
ENV VIRTUAL_ENV=/opt/venv

WORKDIR /src
COPY pyproject.toml requirements.lock ./
RUN uv pip install --no-cache --compile-bytecode --constraint requirements.lock \
    --requirements pyproject.toml --extra beam
COPY README.md docker/images.lock ./
COPY plugins/rejeu plugins/rejeu
COPY beam_jobs beam_jobs
COPY spark_jobs spark_jobs
COPY dags dags
RUN uv build --no-cache --wheel --require-hashes --build-constraint images.lock --out-dir /dist \
    && uv pip install --no-cache --no-deps --compile-bytecode /dist/*.whl
# The expansion service for Beam's steps in Java, of the installed version; else each submission would download it.
RUN ["/opt/venv/bin/python", "-c", "from apache_beam.utils.subprocess_server import JavaJarServer as server; \
    jar = server.path_to_beam_jar('sdks:java:io:google-cloud-platform:expansion-service:build'); \
    __import__('os').rename(server.local_jar(jar, '/opt/jars'), '/opt/jars/expansion-service.jar')"]


# Only the boot program of the SDK's image, whose packages have other versions than ours: Beam's documented way
# (https://beam.apache.org/documentation/runtime/environments/#modify-existing-base-image).
FROM python:3.11.14-slim-bookworm

# The launcher of templates writes its log there, and fails if it may not
# (https://github.com/GoogleCloudPlatform/python-docs-samples/issues/13213).
RUN useradd --uid 10001 --create-home rejeu \
    && install --directory --owner=rejeu /var/log/dataflow/template_launcher
COPY --from=sdk /opt/apache/beam /opt/apache/beam
COPY --from=launcher /opt/google/dataflow/python_template_launcher /opt/google/dataflow/python_template_launcher
COPY --from=java /opt/java/openjdk /opt/java/openjdk
COPY --from=build /opt/jars /opt/jars
COPY --from=build /opt/venv /opt/venv
# What stands beside the specs: a module there is found as it is where Airflow runs.
COPY dags/streams /opt/rejeu/extensions

# Without the second, boot creates a virtual environment at each start, which this user may not.
ENV PATH=/opt/venv/bin:$PATH \
    RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT=1 \
    JAVA_HOME=/opt/java/openjdk \
    REJEU_EXTENSIONS=/opt/rejeu/extensions \
    BEAM_SERVICE_OVERRIDES='{"sdks:java:io:google-cloud-platform:expansion-service:build": "/opt/jars/expansion-service.jar"}' \
    FLEX_TEMPLATE_PYTHON_PY_FILE=/opt/venv/lib/python3.11/site-packages/beam_jobs/template.py
USER 10001
ENTRYPOINT ["/opt/apache/beam/boot"]
