"""`rejeu new`: a spec from a BigQuery table or a file: `sample` looks at it, `guess` judges, `text` writes."""
