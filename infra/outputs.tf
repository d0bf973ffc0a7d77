output "rejeu_alerts" {
  description = "Set REJEU_ALERTS to this in Airflow's environment."
  value       = google_pubsub_subscription.alerts.name
}
