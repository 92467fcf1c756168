"""Why the detector decided as it did: occlusion heat-maps, contact sheets."""
