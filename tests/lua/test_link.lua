--- The link under the cursor: tables of documents and what is meant in them.

local h = require('helper')
local link = require('gemma.link')

local T = {}

local function test(name, fn)
  T[#T + 1] = { name, fn }
end

--- The target in a text with the cursor at the first `|`; other bars are written as ¦.
local function at(ft, text)
  local lines = vim.split(text, '\n', { plain = true })
  for row, l in ipairs(lines) do
    local col = l:find('|', 1, true)
    if col then
      lines[row] = l:sub(1, col - 1) .. l:sub(col + 1)
      for i in ipairs(lines) do
        lines[i] = lines[i]:gsub('¦', '|')
      end
      local found = link.find(lines, row, col - 1, ft)
      return found and found.target, found
    end
  end
  error('no cursor in ' .. text)
end

local function expect(ft, list)
  for _, case in ipairs(list) do
    h.eq(at(ft, case[1]), case[2], case[1])
  end
end

test('markdown: inline, in brackets, by reference, over two lines, within a link', function()
  expect('markdown', {
    { '![p|lot](out/plot.png)', 'out/plot.png' },
    { '|![plot](out/plot.png)', 'out/plot.png' },
    { '![plot](out/plot.png|)', 'out/plot.png' },
    { '![](o|ut/plot.png "the title")', 'out/plot.png' },
    { "![](o|ut/plot.png 'the title')", 'out/plot.png' },
    { '![a](<my p|lot (2).png>)', 'my plot (2).png' },
    { '![a](plot_(|2).png)', 'plot_(2).png' },
    { '![a](my p|lot.png)', 'my plot.png' },
    { '![a](my p|lot.png "the title")', 'my plot.png' },
    { '![a](m|y 2nd plot.png) ![b](c.png)', 'my 2nd plot.png' },
    { '![a](plot\\(|2.png)', 'plot(2.png' },
    { 'see [the |plot](a.png) here', 'a.png' },
    { '[![a|lt](thumb.png)](big.png)', 'thumb.png' },
    { '[![alt](thumb.png)](bi|g.png)', 'big.png' },
    { '![al|t][one]\n\n[one]: pics/a.png "t"', 'pics/a.png' },
    { '![One|][]\n\n[one]: <pics/a b.png>', 'pics/a b.png' },
    { '![one|]\n\n[one]: a.png', 'a.png' },
    { '[on|e]: a.png', 'a.png' },
    { '![a text that\ngoes o|n](a.png)', 'a.png' },
    { '[one]: up.png' .. ('\n'):rep(50) .. '![on|e]', 'up.png' },
    { '![on|e]' .. ('\n'):rep(50) .. '[one]: down.png', 'down.png' },
    { ('x'):rep(20000) .. '![a](a|.png)' .. ('y'):rep(20000), 'a.png' },
    { ('![x](y.png)'):rep(2000) .. '![a](a|.png)' .. ('![x](y.png)'):rep(2000), 'a.png' },
    { '![[shot|.png]]', 'shot.png' },
    { '![[sho|t.png¦300]]', 'shot.png' },
    { '<img src="a|.png" width=3>', 'a.png' },
    { '![a](http://x.org/|a.png)', 'http://x.org/a.png' },
  })
end)

test('markdown: beside the cursor only when there is no doubt', function()
  expect('markdown', {
    { 'The re|sult: ![a](a.png)', 'a.png' },
    { 'The re|sult: ![a](a.png) and ![b](b.png)', nil },
    { 'The re|sult: [a](a.png)', nil },
    { 'not| here\n![a](a.png)', nil },
    { '![a](a.png) ![b](|b.png)', 'b.png' },
    { 'nothing| at all [x] (y)', nil },
    { '|![a](', nil },
  })
end)

test('html: any tag that shows something, in any quotes, over lines', function()
  expect('html', {
    { '<p><img alt="x" src="img/a|.png"></p>', 'img/a.png' },
    { "<IMG SRC='a |b.png'>", 'a b.png' },
    { '<img src=a|.png>', 'a.png' },
    { '<img\n  alt="x|"\n  src="a.png"\n>', 'a.png' },
    { '<a href="big.png"><img src="s|mall.png"></a>', 'small.png' },
    { '<a href="b|ig.png"><img src="small.png"></a>', 'big.png' },
    { '<video controls><source src="f|ilm.webm"></video>', 'film.webm' },
    { '<image xlink:href="a|.png"/>', 'a.png' },
    { '<img src="a.png?x=1&amp;|y=2">', 'a.png?x=1&y=2' },
    { '<p>no pic|ture</p>', nil },
    { '<img data-src="lazy.png" src="a|.png">', 'a.png' },
  })
end)

test('org: links with and without text, search parts, plain file names', function()
  expect('org', {
    { '[[file:img/a|.png]]', 'file:img/a.png' },
    { '[[./img/a.png][the p|lot]]', './img/a.png' },
    { '[[file:a|.png::12]]', 'file:a.png' },
    { '#+CAPTION: x\n  [[file:~/|a.png]]', 'file:~/a.png' },
    { 'see file:img/|a.png there', 'file:img/a.png' },
  })
end)

test('latex: includegraphics with options, without extension, with a comment', function()
  expect('tex', {
    { '\\includegraphics[width=0.5\\textwidth]{fig/|plot}', 'fig/plot' },
    { '\\include|graphics{plot.png}', 'plot.png' },
    { '\\includegraphics*[trim={0 0 1 1},clip]{a|.jpg}', 'a.jpg' },
    { '\\includegraphics[%\n  width=3cm]{|a.jpg}', 'a.jpg' },
    { '\\includesvg{dra|wing}', 'drawing' },
    { '\\adjustimage{width=2cm}{|a.png}', 'a.png' },
    { '\\section{N|o}', nil },
  })
  local _, found = at('tex', '\\graphicspath{{figures/}{more/}}\n\\includegraphics{p|lot}')
  h.eq(found.base, 'figures/')
  h.eq(link.resolve(found, { '/d' })[2], '/d/figures/plot.png')
end)

test('asciidoc: block and inline macros, the folder of pictures', function()
  expect('asciidoc', {
    { 'image::img/a|.png[The plot]', 'img/a.png' },
    { 'text image:i|con.png[] text', 'icon.png' },
    { 'image::my pl|ot.png[x]', 'my plot.png' },
    { 'video::f|ilm.mp4[width=300]', 'film.mp4' },
  })
  local _, found = at('asciidoc', ':imagesdir: pics\n\nimage::a|.png[]')
  h.eq(link.resolve(found, { '/d' })[1], '/d/pics/a.png')
end)

test('rst and unknown languages: directives, quoted names, bare words', function()
  expect('rst', {
    { '.. image:: img/a|.png\n   :width: 3', 'img/a.png' },
    { 'x\n  .. ¦logo¦ image:: img/l|.png', 'img/l.png' },
    { '.. figure::\tf|.png', 'f.png' },
    { '.. subimage:: a| b', nil },
  })
  expect('python', {
    { 'plt.savefig("out/p|lot.png", dpi=300)', 'out/plot.png' },
    { "im = read('my p|lot.jpg')", 'my plot.jpg' },
    { 'x = y.p|ng + 1', 'y.png' },
    { 'plain w|ord', nil },
  })
  expect('', { { '-rw-r--r-- 1 me 12 plot|.png', 'plot.png' } })
end)

test('the lines of the link are told, for the mark in the buffer', function()
  local _, found = at('markdown', 'x\n![a text\nthat goes o|n](a.png)\ny')
  h.eq({ found.first, found.last }, { 2, 3 })
end)

test('resolve: folders, escapes, anchors, file: addresses; nothing from the network', function()
  local function paths(target, dirs)
    return link.resolve({ target = target, first = 1, last = 1 }, dirs or { '/doc', '/cwd' })
  end
  h.eq(paths('a.png'), { '/doc/a.png', '/cwd/a.png' })
  h.eq(paths('my%20plot.png'), { '/doc/my%20plot.png', '/cwd/my%20plot.png', '/doc/my plot.png', '/cwd/my plot.png' })
  h.eq(paths('a.png?raw=true')[3], '/doc/a.png')
  h.eq(paths('/abs/a.png'), { '/abs/a.png', '/doc/abs/a.png', '/cwd/abs/a.png' })
  h.eq(paths('file:///abs/a.png')[1], '/abs/a.png')
  h.eq(paths('file://localhost/abs/a.png')[1], '/abs/a.png')
  h.eq(paths('file:a.png')[1], '/doc/a.png')
  h.eq(paths('shot-12:30.png')[1], '/doc/shot-12:30.png', 'not every colon is that of an address')
  h.eq(paths('$HOME/a.png')[1], '/doc/$HOME/a.png', 'variables are not expanded')
  for _, remote in ipairs({
    'http://x.org/a.png', 'HTTPS://x.org/a.png', '//cdn.x.org/a.png', 'ftp://x/a.png',
  }) do
    local got, err = paths(remote)
    h.eq(got, nil)
    h.eq(err, 'http images are not fetched (no network). Save the file first.', remote)
  end
  local _, err = paths('data:image/png;base64,AAAA')
  h.has(err, 'Save the file first')
end)

test('odd text ends soon: open brackets, long lines, no closing quotes', function()
  for _, text in ipairs({
    ('['):rep(20000), ('![a]('):rep(5000), ('<img '):rep(5000), ('[[x]['):rep(5000),
    ('\\includegraphics['):rep(3000), ('image::a['):rep(5000), ('"'):rep(20001),
    ('.. '):rep(700) .. ('a'):rep(6000),
  }) do
    for _, ft in ipairs({ 'markdown', 'html', 'org', 'tex', 'asciidoc', 'rst', '' }) do
      local t0 = os.clock()
      link.find({ text }, 1, 3, ft)
      local ms = (os.clock() - t0) * 1e3
      h.ok(ms < 1500, ('%s %s... took %d ms'):format(ft, text:sub(1, 8), ms))
    end
  end
end)

return T
