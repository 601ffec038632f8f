"""Updates to short codes and back, with the event of the codec's own fitting."""
