# The roles of streaming jobs on Dataflow, and those that Airflow needs to launch, watch and drain them. Without
# `jobs_service_account` there are none.

locals {
  jobs       = toset(var.jobs_service_account == "" ? [] : [var.jobs_service_account])
  jobs_roles = setproduct(local.jobs, local.jobs_needs)

  jobs_needs = [
    "roles/dataflow.worker",
    # Reading is not enough: Dataflow creates a subscription of its own to track the messages' event times.
    "roles/pubsub.editor",
    "roles/artifactregistry.reader",
  ]
}

resource "google_project_iam_member" "jobs_run" {
  for_each = { for pair in local.jobs_roles : pair[1] => pair[0] }

  project = var.project
  role    = each.key
  member  = "serviceAccount:${each.value}"
}

# Streaming tables and dead letters.
resource "google_bigquery_dataset_iam_member" "jobs_write" {
  for_each = var.jobs_service_account == "" ? toset([]) : var.jobs_datasets

  dataset_id = each.value
  role       = "roles/bigquery.dataEditor"
  member     = "serviceAccount:${var.jobs_service_account}"
}

# Staged files, and the template.
resource "google_storage_bucket_iam_member" "jobs_stage" {
  for_each = local.jobs

  bucket = var.jobs_bucket
  role   = "roles/storage.objectAdmin"
  member = "serviceAccount:${each.value}"
}

resource "google_project_iam_member" "airflow_launches" {
  for_each = local.jobs

  project = var.project
  role    = "roles/dataflow.developer"
  member  = local.watchdog
}

resource "google_service_account_iam_member" "airflow_lends" {
  for_each = local.jobs

  service_account_id = "projects/${var.project}/serviceAccounts/${each.value}"
  role               = "roles/iam.serviceAccountUser"
  member             = local.watchdog
}
