"""Templates, style and scripts of the control room's page. htmx and its SSE extension are vendored: see NOTICE.md."""
