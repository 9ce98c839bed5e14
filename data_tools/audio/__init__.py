"""Audio: decoding any recording to 16 kHz mono, and the 50 Hz features (log-mel and f0) the networks read."""
