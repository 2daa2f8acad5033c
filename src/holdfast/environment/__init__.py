"""What ran: versions, machine, commit, author."""
