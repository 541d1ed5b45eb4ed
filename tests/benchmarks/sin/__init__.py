"""The vjp of sin, served by distgrad and by its peers: each file is run by the Python that has what it imports.

python FILE serve PORT      a server
python FILE ask PORT        a client: reads lines "N COUNT" and answers each with the times it took, as JSON
"""
