--- evaluate.lua: how good the embedded model is, judged with the C engine.
---
---   nvim --clean -l evaluate.lua TOP WORK [--model FILE] [--mmproj FILE] [--count N] [--lib FILE]
---                                         [--tool FILE] [--only code,explain,picture,sound,equal] [--show]
---
--- Everything runs through the plugin's own prompts and its engine (context.lua, attach.lua,
--- engine.lua, libgemma.so), as in an editor. Held out are files, fonts and voices; shapes, their colours and
--- numbers, tones and beeps are as in training, in pictures and sounds that are not of it. Prints one line
--- for each score; --count limits the functions and questions of each kind, and the places in code to four
--- times as many, because lines differ more. `equal` writes the engine's answers for equality.py, by
--- `gemma run`.

local top, work = _G.arg[1], _G.arg[2]
local opt = { count = '200', only = 'code,explain,picture,sound' }
do
  local i = 3
  while _G.arg[i] do
    local name = _G.arg[i]:match('^%-%-(.+)$')
    if name == 'show' then
      opt.show = true
      i = i + 1
    else
      opt[name] = _G.arg[i + 1]
      i = i + 2
    end
  end
end
opt.model = opt.model or work .. '/gemma-embedded.gguf'
opt.mmproj = opt.mmproj or work .. '/mmproj-gemma-embedded.gguf'
opt.lib = opt.lib or top .. '/build/libgemma.so'
opt.tool = opt.tool or top .. '/build/gemma'
local count = tonumber(opt.count)

vim.opt.runtimepath:prepend(top)
package.path = top .. '/tools/embedded/?.lua;' .. package.path
vim.g.gemma = { model_path = opt.model, mmproj_path = opt.mmproj, lib_path = opt.lib, load = 'manual',
  log = 'error', shared = 'own' }
local holes = require('holes')
local context = require('gemma.context')
local engine = require('gemma.engine')
local request = require('gemma.request')

---@param format string
---@param ... any
local function say(format, ...)
  io.stdout:write(format:format(...), '\n')
  io.stdout:flush()
end

--- The steps of inserting, deleting and replacing a byte that make a into b.
---@param a string
---@param b string
---@param replacing integer what replacing costs
---@return integer
local function distance(a, b, replacing)
  local before = {}
  for j = 0, #b do
    before[j] = j
  end
  for i = 1, #a do
    local row = { [0] = i }
    for j = 1, #b do
      local cost = a:byte(i) == b:byte(j) and 0 or replacing
      row[j] = math.min(before[j] + 1, row[j - 1] + 1, before[j - 1] + cost)
    end
    before = row
  end
  return before[#b]
end

--- Edit similarity as the papers on code completion have it (CodeXGLUE, RepoBench, CrossCodeEval: the
--- ratio of fuzzywuzzy, where replacing is deleting and inserting), and the stricter
--- 1 - edit distance / length of the longer.
---@param a string
---@param b string
---@return number ratio 0 to 1
---@return number strict 0 to 1
local function similarity(a, b)
  if a == b then
    return 1, 1
  end
  return 1 - distance(a, b, 2) / (#a + #b), 1 - distance(a, b, 1) / math.max(#a, #b)
end

--- Waits for one answer. This is a script without a user, so it may wait.
---@param req gemma.Request
---@param enough (fun(text: string): boolean)? may it end here?
---@return string text
local function answer(req, enough)
  local text, over, failed = '', false, nil
  req.on_text = function(t)
    text = text .. t
    over = over or enough ~= nil and enough(text)
  end
  req.on_done = function()
    over = true
  end
  req.on_error = function(e)
    failed = e.text
  end
  local job, err = engine.generate(req)
  if not job then
    error(err)
  end
  vim.wait(60000, function()
    return over or failed ~= nil
  end, 1)
  if not over then
    error(failed or 'no answer within a minute')
  end
  job:cancel()
  return text
end

-- ---- code --------------------------------------------------------------------------------------

--- What a copier would say: the line after that earlier line which is most like the one above.
---@param lines string[]
---@param row integer 1-based
---@return string
local function copied(lines, row)
  local above = row - 1
  while above >= 1 and not lines[above]:find('%S') do
    above = above - 1
  end
  local best, found = -1, ''
  for r = math.max(1, above - 150), above - 1 do
    if lines[r]:find('%S') and lines[r + 1]:find('%S') then
      local s = similarity(vim.trim(lines[r]), vim.trim(lines[above] or ''))
      if s >= best then
        best, found = s, lines[r + 1]
      end
    end
  end
  return vim.trim(found)
end

--- Sums of how right some lines are.
---@return { add: fun(got: string, want: string), text: fun(n: integer): string }
local function tally()
  local exact, ratio, strict = 0, 0, 0
  return {
    add = function(got, want)
      local r, s = similarity(got, want)
      exact, ratio, strict = exact + (got == want and 1 or 0), ratio + r, strict + s
    end,
    text = function(n)
      local format = 'exact %.1f %%, edit similarity %.3f (by the longer line %.3f)'
      return format:format(100 * exact / n, ratio / n, strict / n)
    end,
  }
end

--- The first line of a suggestion that says something. One that begins with blank lines is shown with what
--- comes after them.
local LINE = '%S[^\n]*'

---@param text string
---@return boolean
local function has_line(text)
  return text:find(LINE .. '\n') ~= nil
end

--- What the model says to the request that an editor would send from a place, until it is `enough`.
---@param buf integer
---@param row integer 0-based
---@param col integer
---@param max_tokens integer
---@param enough (fun(text: string): boolean)?
---@return string
local function suggestion(buf, row, col, max_tokens, enough)
  local c = context.gather(buf, row, col, { tokens = 1024, suffix_tokens = 512 })
  return answer({
    parts = context.parts(c),
    session = 0,
    priority = 'typing',
    heal = true,
    max_tokens = max_tokens,
    stops = request.stops(c, false),
  }, enough)
end

---@param language string
local function code(language)
  local files = vim.tbl_filter(function(f)
    return f.package ~= 'made'
  end, holes.files(work, 'held', language))
  local rnd = holes.random(77)
  local n, ms = 0, 0
  local places = 4 * count
  local model, copier = tally(), tally()
  while n < places do
    local file = files[rnd(#files)]
    local buf, lines = holes.open(holes.read(file.path), file.name, language)
    for _ = 1, 4 do
      local row = rnd(#lines)
      local want = vim.trim(lines[row])
      if n < places and row > 5 and #want >= 2 and #want < 160 then
        n = n + 1
        local white = #lines[row]:match('^%s*')
        local hole = { row = row - 1, col = white, to_row = row - 1, to_col = #lines[row], text = want }
        local got = ''
        holes.with(buf, lines, hole, false, function()
          local began = vim.uv.hrtime()
          local text = suggestion(buf, row - 1, white, 48, has_line)
          ms = ms + (vim.uv.hrtime() - began) / 1e6
          got = vim.trim(text:match(LINE) or '')
        end)
        local copy = copied(lines, row)
        model.add(got, want)
        copier.add(copy, want)
        if opt.show then
          say('  %s %s\n    want %s\n    got  %s', got == want and '=' or ' ', file.name, want, got)
        end
      end
    end
    vim.api.nvim_buf_delete(buf, { force = true })
  end
  say('%s, next line, %d places: %s', language, n, model.text(n))
  say('%s, copying the line after the most similar one: %s', language, copier.text(n))
  say('%s, time: %.0f ms to a line', language, ms / n)
end

--- Simple functions that are half written: all lines of the rest, and those behind the first one, with
--- their indentation. Files and their names are new; most functions stand in other files that training had.
---@param tail boolean is the text below the function missing too?
local function rests(tail)
  local files = vim.tbl_filter(function(f)
    return f.package == 'made'
  end, holes.files(work, 'held', 'lua'))
  local rnd = holes.random(78)
  local n, whole = 0, 0
  local behind = tally()
  while n < count do
    local file = files[rnd(#files)]
    local buf, lines = holes.open(holes.read(file.path), ('attempt/no%d.lua'):format(n), 'lua')
    for _ = 1, 4 do
      local row = rnd(#lines)
      local white = #lines[row]:match('^%s*')
      local hole = { row = row - 1, col = white, to_row = row - 1, to_col = #lines[row], text = '' }
      if n < count and row > 5 and #lines[row] > white then
        hole = holes.rest(lines, hole)
      end
      local want = hole.text
      if want:find('\n') then
        n = n + 1
        holes.with(buf, lines, hole, tail, function()
          local got = vim.trim(suggestion(buf, row - 1, white, 160))
          whole = whole + (got == want and 1 or 0)
          behind.add(got:match('\n(.*)') or '', want:match('\n(.*)'))
          if opt.show then
            say('  %s %s\n%s\n  want\n%s', got == want and '=' or ' ', file.name, got, want)
          end
        end)
      end
    end
    vim.api.nvim_buf_delete(buf, { force = true })
  end
  say('lua, the rest of %d simple functions %s: all lines right %.1f %%; those behind the first %s', n,
    tail and 'at the end of a file' or 'with text below', 100 * whole / n, behind.text(n))
end

-- ---- explanations ------------------------------------------------------------------------------

--- Words of a sentence that carry its meaning.
---@param s string
---@return table<string, true>
local function content(s)
  local out = {}
  for w in s:lower():gmatch('%a[%w_]+') do
    if #w > 3 then
      out[w:gsub('s$', '')] = true
    end
  end
  return out
end

---@param a table<string, true>
---@param b table<string, true>
---@return number harmonic mean of precision and recall
local function overlap(a, b)
  local both, n_a, n_b = 0, vim.tbl_count(a), vim.tbl_count(b)
  for w in pairs(a) do
    both = both + (b[w] and 1 or 0)
  end
  return n_a + n_b > 0 and 2 * both / (n_a + n_b) or 0
end

local function explanations()
  local path = work .. '/held/explain.jsonl'
  if not vim.uv.fs_stat(path) then
    return say('explain: skipped, %s is missing', path)
  end
  local rules = vim.json.decode(holes.read(work .. '/prompts/rules.json'))
  local n, score = { real = 0, made = 0 }, { real = 0, made = 0 }
  for line in io.lines(path) do
    local entry = vim.json.decode(line)
    local parts = {}
    for _, p in ipairs(entry.parts) do
      local data = p[2]:sub(1, 1) == '\0' and rules[p[2]:sub(2)] or p[2]
      parts[#parts + 1] = { kind = p[1], data = data }
    end
    local which = entry.package == 'made' and 'made' or 'real'
    -- With the comment in the prompt it would be a matter of copying.
    if n[which] < count and not parts[4].data:find('<above>', 1, true) then
      local got = answer({ parts = parts, session = 1, priority = 'ask', max_tokens = 64 })
      n[which] = n[which] + 1
      score[which] = score[which] + overlap(content(got), content(entry.answer))
      if opt.show then
        say('    want %s\n    got  %s', entry.answer, vim.trim(got))
      end
    end
  end
  say('explain, %d functions of real code: overlap of words with the comment %.3f', n.real,
    score.real / n.real)
  say('explain, %d simple functions: overlap of words with the comment %.3f', n.made,
    score.made / n.made)
end

-- ---- pictures and sounds -----------------------------------------------------------------------

---@param s string
---@return table<string, true>
local function set(s)
  local out = {}
  for w in s:lower():gmatch('%w+') do
    out[w] = true
  end
  return out
end

--- Right: of all words that could be the answer, the answer has just the right ones.
---@param got string
---@param right string
---@param labels string
---@return boolean
local function is_right(got, right, labels)
  -- One of the words that are read is "word".
  local words, want = set((got:gsub('The word is ', ''))), set(right)
  for label in pairs(set(labels)) do
    if (words[label] or false) ~= (want[label] or false) then
      return false
    end
  end
  return true
end

---@param only 'picture'|'sound'
local function media(only)
  local order, sums = {}, {}
  for line in io.lines(work .. '/held/media.tsv') do
    local group, kind, files, question, right, labels = unpack(vim.split(line, '\t'))
    if kind == only and (not sums[group] or sums[group][1] < count) then
      local parts = {
        { kind = 'system' },
        { kind = 'text', data = require('gemma.attach').SYSTEM },
        { kind = 'user' },
      }
      for name in files:gmatch('%S+') do
        parts[#parts + 1] = {
          kind = kind == 'picture' and 'image' or 'audio',
          data = ('%s/held/%s/%s'):format(work, kind, name),
        }
      end
      parts[#parts + 1] = { kind = 'text', data = question }
      local got = answer({
        parts = parts,
        session = 1,
        priority = 'ask',
        max_tokens = 24,
      })
      if not sums[group] then
        sums[group] = { 0, 0 }
        order[#order + 1] = group
      end
      local ok = is_right(got, right, labels)
      sums[group][1] = sums[group][1] + 1
      sums[group][2] = sums[group][2] + (ok and 1 or 0)
      if opt.show then
        say('  %s %s %s | %s | %s', ok and '=' or ' ', files, question, right, vim.trim(got))
      end
    end
  end
  for _, group in ipairs(order) do
    local n, good = unpack(sums[group])
    say('%s, %s: %d of %d, %.1f %%', only, group, good, n, 100 * good / n)
  end
end

-- ---- the engine's side of equality.py ----------------------------------------------------------

local function equal()
  local out = assert(io.open(work .. '/held/equal.out', 'w'))
  for line in io.lines(work .. '/held/equal.tsv') do
    local kind, ids, files, question = unpack(vim.split(line, '\t'))
    local cmd = { opt.tool, 'run', '-m', opt.model, '-n', '24', '--temp', '0', '--json' }
    if ids ~= '' then
      vim.list_extend(cmd, { '--ids', ids })
    else
      vim.list_extend(cmd, { '--mmproj', opt.mmproj, '--chat', '--prompt', question })
    end
    for name in files:gmatch('%S+') do
      vim.list_extend(cmd, { kind == 'picture' and '--image' or '--audio',
        ('%s/held/%s/%s'):format(work, kind, name) })
    end
    local done = vim.system(cmd, { text = true }):wait()
    if done.code ~= 0 then
      error(done.stderr)
    end
    out:write((done.stdout:gsub('%s*$', '')), '\n')
  end
  out:close()
end

-- ---- all ---------------------------------------------------------------------------------------

local wanted = {}
for name in opt.only:gmatch('[%w_]+') do
  wanted[name] = true
end
if not wanted.equal then
  local ready, failed = false, nil
  local begun, why = engine.load(function(err)
    ready, failed = true, err
  end)
  if not begun then
    ready, failed = true, why
  end
  vim.wait(30000, function()
    return ready
  end, 5)
  if not ready or failed then
    say('the model cannot be loaded: %s', failed or 'no answer')
    os.exit(1)
  end
end
if wanted.code then
  code('lua')
  code('c')
  rests(true)
  rests(false)
end
if wanted.explain then
  explanations()
end
if wanted.picture then
  media('picture')
end
if wanted.sound then
  media('sound')
end
if wanted.equal then
  equal()
end
engine.shutdown(200)
