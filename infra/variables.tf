variable "project" {
  description = "Project of topics, subscriptions and tables (REJEU_PROJECT)."
  type        = string
}

variable "streams" {
  description = "Which topic each stream has: the specs' `stream` and `live.topic`."
  type        = map(string)
}

variable "tapped" {
  description = "Streams whose spec names the probe `tap`."
  type        = set(string)
  default     = []

  validation {
    condition     = alltrue([for stream in var.tapped : contains(keys(var.streams), stream)])
    error_message = "Every stream of `tapped` must be one of `streams`: add it there with its topic."
  }
}

variable "watchdog_service_account" {
  description = "E-mail of the account that Airflow's workers and triggerer run as."
  type        = string
}

variable "dataset" {
  description = "Dataset of the table of incidents (REJEU_DATASET)."
  type        = string
  default     = "rejeu"
}

variable "location" {
  description = "BigQuery location of that dataset (REJEU_LOCATION)."
  type        = string
  default     = "US"
}

variable "metric" {
  description = "The metric that counts publishing: the specs' `watchdog.metric`. The default shows publishing first."
  type        = string
  default     = "pubsub.googleapis.com/topic/send_request_latencies"
}

variable "absence_seconds" {
  description = "How long a topic may show no publishing: one sample of 60 s, and 120 s until it can be seen."
  type        = number
  default     = 180

  validation {
    condition     = var.absence_seconds >= 120 && var.absence_seconds % 60 == 0
    error_message = "absence_seconds must be a multiple of 60 and at least 120: Cloud Monitoring takes no other."
  }
}

variable "people" {
  description = "Notification channels (their full names) that also tell a person, in case Airflow is gone."
  type        = list(string)
  default     = []
}

variable "jobs_service_account" {
  description = "E-mail of the account that streaming jobs on Dataflow run as (REJEU_JOBS_SERVICE_ACCOUNT); empty: none."
  type        = string
  default     = ""
}

variable "jobs_datasets" {
  description = "Datasets that streaming jobs write: those of the specs' `live.table` and `live.dead_letters`."
  type        = set(string)
  default     = []
}

variable "jobs_bucket" {
  description = "Bucket where streaming jobs stage their files and find their template (REJEU_BUCKET)."
  type        = string
  default     = ""

  validation {
    condition     = (var.jobs_bucket == "") == (var.jobs_service_account == "")
    error_message = "jobs_bucket and jobs_service_account go together: set both, or neither."
  }
}
