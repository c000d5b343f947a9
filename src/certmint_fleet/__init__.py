"""A fleet of real agents, run from one machine against a real server: `certmint-fleet`.

- The agents are those that run on devices: the Python one in threads of this process, the shell
  one in processes of its own. Nothing here speaks to the server for them.
- Each agent has a service folder that outlives the run; the next run goes on with it.
- It is a client: it knows `certmint_agent`, and nothing of the server's code, keys or database.
- The faults are those of the field (power cuts, torn connections), and never the agents' own.
"""
