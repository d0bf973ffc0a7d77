"""`python -m spark_jobs.stations`: raw answers of the V'lille API to the rows that the pipeline `stations` writes.

For ranges that are too long for one load job a day. It replaces its output, so it may run again.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from typing import Final

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as sql

from rejeu.bigquery import types
from rejeu.errors import SourceError
from rejeu.spec.pipelines import PIPELINES

TABLE: Final = re.compile(r"[A-Za-z0-9-]+\.\w+\.[\w-]+")
ANSWER: Final = "observed_at STRING, records ARRAY<STRING>"
BROKEN: Final = "broken"
RECORD: Final = f"""
    recordid STRING, record_timestamp STRING, {BROKEN} STRING,
    fields STRUCT<
        libelle: STRING, nom: STRING, adresse: STRING, commune: STRING, etat: STRING, etatconnexion: STRING,
        type: STRING, nbvelosdispo: BIGINT, nbplacesdispo: BIGINT, localisation: ARRAY<DOUBLE>, datemiseajour: STRING
    >"""
"""A record; text columns take any value as text."""
ZONE: Final = r"(Z|[+-]\d\d:?\d\d)$"


def main(argv: Sequence[str] | None = None) -> int:
    """Reload the files. Returns exit code 1 where records were refused; the others are written nevertheless."""
    parser = argparse.ArgumentParser(prog="python -m spark_jobs.stations", description=__doc__)
    parser.add_argument("--raw", required=True, help="raw files, a path or gs:// URI, * allowed")
    parser.add_argument("--output", required=True, help="project.dataset.table, or a folder for Parquet")
    parser.add_argument("--dead-letters", required=True, help="folder for the records that are no rows, as JSON")
    arguments = parser.parse_args(argv)
    spark = SparkSession.builder.appName("rejeu-stations").config("spark.sql.session.timeZone", "UTC").getOrCreate()
    try:
        records = parse(spark.read.text(arguments.raw)).cache()
        write(rows_of(records), arguments.output)
        refused = records.where(sql.col("reason").isNotNull()).select("reason", "payload")
        refused.write.mode("overwrite").json(arguments.dead_letters)
        dead = refused.count()
        print(f"rejeu: {records.count() - dead:,} rows written, {dead:,} records refused", flush=True)
    finally:
        spark.stop()
    return 1 if dead else 0


def parse(lines: DataFrame) -> DataFrame:
    """Lines of raw files (`value`) to records, each with its text as `payload`, and a `reason` if it is no row."""
    answers = lines.where(sql.trim("value") != "").select("value", sql.from_json("value", ANSWER).alias("answer"))
    told = answers.select(
        "value", "answer.observed_at", sql.explode_outer("answer.records").alias("record")
    ).withColumn("payload", sql.coalesce("record", "value"))
    options = {"columnNameOfCorruptRecord": BROKEN}
    records = told.select("observed_at", "payload", sql.from_json("record", RECORD, options).alias("it"))
    return records.select("observed_at", "payload", "it.*").withColumn("reason", _reason())


def rows_of(records: DataFrame) -> DataFrame:
    """The pipeline's columns, of its types."""
    values = {
        "latitude": sql.col("fields.localisation")[0],
        "longitude": sql.col("fields.localisation")[1],
        **{name: sql.col(name) for name in ("observed_at", "recordid", "record_timestamp")},
    }
    columns = PIPELINES["stations"].columns or ()
    return records.where(sql.col("reason").isNull()).select(
        [
            values.get(each.name, sql.col(f"fields.{each.name}")).cast(_spark_type(each.type)).alias(each.name)
            for each in columns
        ]
    )


def _spark_type(name: str) -> str:
    kind = types.find(name)
    if kind is None or kind.spark is None:
        cast = ", ".join(each.name for each in types.TYPES if each.spark is not None)
        raise SourceError(f"Spark has no type for a {name} of BigQuery: columns of this job have {cast}; take one")
    return kind.spark


def write(rows: DataFrame, output: str) -> None:
    """Write to a BigQuery table by its Spark connector, which Dataproc has, or as Parquet to a folder."""
    if TABLE.fullmatch(output):
        rows.write.format("bigquery").option("writeMethod", "direct").mode("overwrite").save(output)
    else:
        rows.write.mode("overwrite").parquet(output)


def _reason() -> Column:
    """Why a record is not a row; null where it is one."""
    place = sql.col("fields.localisation")
    rules = {
        "it is no record of the wanted shape and types": sql.col(BROKEN).isNotNull(),
        "recordid or fields.libelle is missing": sql.col("recordid").isNull() | sql.col("fields.libelle").isNull(),
        "observed_at is missing": sql.col("observed_at").isNull(),
        "fields.localisation is not two numbers": place.isNotNull() & (sql.size(place) != 2),
        **{
            f"{name} is no time with a zone": sql.col(name).isNotNull() & ~_is_instant(sql.col(name))
            for name in ("observed_at", "record_timestamp", "fields.datemiseajour")
        },
    }
    return sql.coalesce(*(sql.when(broken, sql.lit(reason)) for reason, broken in rules.items()))


def _is_instant(text: Column) -> Column:
    return text.rlike(ZONE) & text.cast("timestamp").isNotNull()


if __name__ == "__main__":
    sys.exit(main())
