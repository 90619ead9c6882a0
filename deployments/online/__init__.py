"""The champion's online API: it answers requests, follows the champion, and keeps what it predicted."""
