# The watchdog's roles. Starting replays needs more: docs/how-to/run-in-the-cloud.md names the launchers' roles.

locals {
  watchdog = "serviceAccount:${var.watchdog_service_account}"
}

# The probe `metric`.
resource "google_project_iam_member" "watchdog_sees_metrics" {
  project = var.project
  role    = "roles/monitoring.viewer"
  member  = local.watchdog
}

resource "google_pubsub_subscription_iam_member" "watchdog_hears_alerts" {
  subscription = google_pubsub_subscription.alerts.id
  role         = "roles/pubsub.subscriber"
  member       = local.watchdog
}

# The table of incidents.
resource "google_bigquery_dataset" "rejeu" {
  dataset_id = var.dataset
  location   = var.location
}

resource "google_bigquery_dataset_iam_member" "watchdog_writes_incidents" {
  dataset_id = google_bigquery_dataset.rejeu.dataset_id
  role       = "roles/bigquery.dataEditor"
  member     = local.watchdog
}

resource "google_project_iam_member" "watchdog_queries" {
  project = var.project
  role    = "roles/bigquery.jobUser"
  member  = local.watchdog
}

# The probe `tap`: a second subscription of the stream's topic, with the shortest retention that Pub/Sub offers.
resource "google_pubsub_subscription" "tap" {
  for_each = var.tapped

  name  = "${var.streams[each.value]}-${replace(each.value, "_", "-")}-tap"
  topic = "projects/${var.project}/topics/${var.streams[each.value]}"

  message_retention_duration = "600s"

  expiration_policy {
    ttl = "" # never: with it its IAM binding would go
  }
}

resource "google_pubsub_subscription_iam_member" "watchdog_taps" {
  for_each = google_pubsub_subscription.tap

  subscription = each.value.id
  role         = "roles/pubsub.subscriber"
  member       = local.watchdog
}
