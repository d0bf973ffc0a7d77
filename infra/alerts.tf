# Cloud Monitoring publishes its alerts to a topic, and the DAG `rejeu.patrol` reads them there.

resource "google_pubsub_topic" "alerts" {
  name = "rejeu-alerts"
}

resource "google_pubsub_subscription" "alerts" {
  name  = "rejeu-alerts-patrol"
  topic = google_pubsub_topic.alerts.id

  # An alert that the patrol has read but not handled, because its worker died, comes again after this.
  ack_deadline_seconds       = 600
  message_retention_duration = "86400s"

  expiration_policy {
    ttl = "" # never: a month without an alert is a good month
  }
}

data "google_project" "this" {
  project_id = var.project
}

resource "google_pubsub_topic_iam_member" "monitoring_publishes" {
  topic  = google_pubsub_topic.alerts.id
  role   = "roles/pubsub.publisher"
  member = "serviceAccount:service-${data.google_project.this.number}@gcp-sa-monitoring-notification.iam.gserviceaccount.com"
}

resource "google_monitoring_notification_channel" "patrol" {
  display_name = "Rejeu's patrol"
  type         = "pubsub"

  labels = {
    topic = google_pubsub_topic.alerts.id
  }

  # The channel is checked when it is created.
  depends_on = [google_pubsub_topic_iam_member.monitoring_publishes]
}

resource "google_monitoring_alert_policy" "absence" {
  for_each = toset(values(var.streams))

  display_name          = "Rejeu: nothing is published to ${each.value}"
  combiner              = "OR"
  notification_channels = concat([google_monitoring_notification_channel.patrol.id], var.people)

  conditions {
    display_name = "${each.value}: no publish request"

    condition_absent {
      filter   = "resource.type = \"pubsub_topic\" AND resource.labels.topic_id = \"${each.value}\" AND metric.type = \"${var.metric}\""
      duration = "${var.absence_seconds}s"

      # One series a topic, for all response codes; the label of the grouping is also the label of the alert.
      aggregations {
        alignment_period     = "60s"
        per_series_aligner   = "ALIGN_DELTA"
        cross_series_reducer = "REDUCE_SUM"
        group_by_fields      = ["resource.label.topic_id"]
      }
    }
  }

  alert_strategy {
    auto_close = "1800s"
  }

  documentation {
    mime_type = "text/markdown"
    subject   = "Nothing is published to ${each.value}"
    content   = <<-TEXT
      Nothing was published to the topic `${each.value}` for ${var.absence_seconds} s. It feeds ${join(", ", [for stream, topic in var.streams : "`${stream}`" if topic == each.value])}.

      **What reacts**: the DAG `rejeu.patrol` reads this and runs the watchdog of each of these streams
      (`<stream>.watchdog`), which looks again and relaunches the replay at its cursor. A quiet part of the source raises
      the same alert: then that run is skipped, and nothing is wrong.

      **What to do** if the alert stays open while rows are due: check that Airflow's scheduler and triggerer run
      and `rejeu.patrol` and the watchdogs are not paused; then read the last watchdog run. One that has given up says why,
      and what to do. `rejeu incidents` shows what was repaired.
    TEXT
  }
}
