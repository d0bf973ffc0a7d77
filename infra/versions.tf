terraform {
  required_version = ">= 1.9" # a variable's validation may name another variable

  required_providers {
    google = {
      source  = "hashicorp/google"
      version = ">= 6.0, < 8.0"
    }
  }
}

provider "google" {
  project = var.project
}
