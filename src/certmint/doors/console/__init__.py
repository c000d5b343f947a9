"""The console door: pages for people."""
