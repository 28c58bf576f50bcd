"""What every router does with a request, whatever its protocol.

`access` says who asks and what they may do, `tokens` makes and recognises tokens, `quotas` holds
them to what they may take, `uploads` takes bodies in, `slots` shares the threads for heavy work,
`connections` closes those that no client uses.

Imports `protocol`, `errors` and `dedup`. Knows no route.

- **caller**: who asks, by the token of the request.
- **slot**: the right to do heavy work in a thread.
"""
