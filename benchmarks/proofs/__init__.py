"""Nothing is lost: kills, power cuts, full disks, flipped bytes, many clients."""
