--- commit.lua: :Gemma commit, a message for what is staged.
---
--- git runs asynchronously and never writes; excluded files are left out before their contents are
--- read. The message goes into the commit buffer, or into a new one; git itself is not told.

local busy = require('gemma.busy')
local child = require('gemma.child')
local fence = require('gemma.chat.fence')
local kept = require('gemma.chat.kept')
local notify = require('gemma.notify')
local transcript = require('gemma.chat.transcript')
local util = require('gemma.util')

local M = {}

local api = vim.api
local ns = api.nvim_create_namespace('gemma.commit')

local MAX_TOKENS = 400 -- of the message
local DIFF_TOKENS = { cpu = 2048, gpu = 6144 } -- a longer diff would be read for minutes
local MIN_SHARE = 120 -- bytes of a file's diff that are of any use
local STYLE_COMMITS = 8 -- subjects of the past, for the tone
local GIT_MS = 20000
local DIFF_BYTES = 2e6 -- many times what a prompt can hold; more would make the editor stand still

M.SYSTEM = [[
You write the message of a git commit from its diff. First line: what the commit does, in the
imperative, at most 72 characters, no full stop, in the style of the earlier subjects. Then, when the
diff does not explain itself, an empty line and a short body, at most 72 characters a line: why, and
what a reader would not expect. No lists of files, no Markdown, no quotes around the message.]]

---@class (exact) gemma.commit.File
---@field head string[] lines up to the first hunk
---@field body string[]

--- The files of a diff.
---@param diff string
---@return gemma.commit.File[]
function M.files(diff)
  local out, file, in_body = {}, nil, false
  for line in vim.gsplit(diff:gsub('\n$', ''), '\n', { plain = true }) do
    if line:find('^diff %-%-git ') then
      file, in_body = { head = {}, body = {} }, false
      out[#out + 1] = file
    end
    in_body = in_body or line:find('^@@') ~= nil
    if file then
      local to = in_body and file.body or file.head
      to[#to + 1] = line
    end
  end
  return out
end

---@param lines string[]
---@return integer bytes
local function size(lines)
  local n = 0
  for _, l in ipairs(lines) do
    n = n + #l + 1
  end
  return n
end

--- Lines that fit, and a note about the others.
---@param lines string[]
---@param limit integer bytes
---@return string[]
local function cut(lines, limit)
  local out, n = {}, 0
  for i, line in ipairs(lines) do
    n = n + #line + 1
    if n > limit then
      out[#out + 1] = ('[%d more lines]'):format(#lines - i + 1)
      break
    end
    out[#out + 1] = line
  end
  return out
end

--- A diff of at most about so many bytes. Every file keeps its head; what is left is shared, and
--- what small files do not need goes to the large ones.
---@param diff string
---@param limit integer bytes
---@return string
function M.shorten(diff, limit)
  if #diff <= limit then
    return diff
  end
  local files = M.files(diff)
  local left = limit
  for _, f in ipairs(files) do
    left = left - size(f.head)
  end
  local order = {}
  for i in ipairs(files) do
    order[i] = i
  end
  table.sort(order, function(a, b)
    local x, y = size(files[a].body), size(files[b].body)
    return x < y or (x == y and a < b)
  end)
  local share = {}
  for k, i in ipairs(order) do
    local fair = math.max(0, math.floor(left / (#order - k + 1)))
    share[i] = math.min(size(files[i].body), fair)
    left = left - share[i]
  end
  local out, n = {}, 0
  for i, f in ipairs(files) do
    local piece = vim.list_extend({}, f.head)
    if share[i] >= math.min(MIN_SHARE, size(f.body)) then
      vim.list_extend(piece, cut(f.body, share[i]))
    else
      piece = { f.head[1], ('[%s]'):format(util.count(#f.body, 'line')) }
    end
    n = n + size(piece)
    -- Thousands of files: not even their names fit.
    if n > limit + MIN_SHARE and i > 1 then
      out[#out + 1] = ('[%d more files]'):format(#files - i + 1)
      break
    end
    vim.list_extend(out, piece)
  end
  return table.concat(out, '\n') .. '\n'
end

--- A diff of which only the beginning was read: the files that did not come are named.
---@param diff string
---@param names string[] of all files, in git's order
---@return string
function M.complete(diff, names)
  diff = diff:match('^.*\n') or ''
  local last = ('\n' .. diff):match('^.*\ndiff %-%-git ([^\n]*)\n') or ''
  local seen = 0
  for i, name in ipairs(names) do
    -- The longest one, since another may end in the same way.
    if
      (vim.endswith(last, '/' .. name) or vim.endswith(last, ' ' .. name))
      and #name > #(names[seen] or '')
    then
      seen = i
    end
  end
  local out = { diff }
  for i = seen + 1, #names do
    local name = transcript.one_line(names[i])
    out[#out + 1] = ('diff --git a/%s b/%s\n[not read]\n'):format(name, name)
  end
  return table.concat(out)
end

--- The message in what the model wrote: no fences, no quotes, no blank lines around it.
---@param text string
---@return string[]
function M.message(text)
  local lines = vim.split(vim.trim(transcript.printable(text)), '\n', { plain = true })
  local block = fence.blocks(lines)[1]
  if block and block.first == 1 then
    lines = block.code
  end
  while lines[1] and not lines[1]:find('%S') do
    table.remove(lines, 1)
  end
  while #lines > 0 and not lines[#lines]:find('%S') do
    lines[#lines] = nil
  end
  for i, line in ipairs(lines) do
    lines[i] = line:gsub('%s+$', '')
  end
  if #lines == 1 then
    lines[1] = lines[1]:gsub('^(["`\'])(.*)%1$', '%2')
  end
  -- A second line that is not empty would become part of the subject.
  if lines[2] and lines[2] ~= '' then
    table.insert(lines, 2, '')
  end
  return lines
end

--- Whether git takes the line for a comment.
---@param line string
---@return boolean
local function comment(line)
  return line:find('^#') ~= nil
end

--- Puts a message before everything else in a buffer; an empty first line makes room for it.
---@param buf integer
---@param message string[]
local function insert(buf, message)
  local first = api.nvim_buf_get_lines(buf, 0, 1, false)[1] or ''
  local second = api.nvim_buf_get_lines(buf, 1, 2, false)[1]
  local room = first == '' and (second == nil or second == '' or comment(second))
  local lines = vim.list_extend({}, message)
  if not room or (second and second ~= '') then
    lines[#lines + 1] = ''
  end
  api.nvim_buf_set_lines(buf, 0, room and 1 or 0, false, lines)
end

---@class gemma.commit.Run
---@field buf integer where the message goes
---@field own boolean the buffer was made for it
---@field keys gemma.Keys
---@field mark integer?
---@field handle gemma.Handle?
---@field over boolean
local Run = {}
Run.__index = Run

---@param text string
function Run:busy(text)
  if not self.over and api.nvim_buf_is_valid(self.buf) then
    self.mark = busy.mark(self.buf, ns, 0, text, self.mark)
  end
end

--- Nothing of us stays in the buffer. False when that has been done before.
---@return boolean
function Run:finish()
  if self.over then
    return false
  end
  self.over = true
  self.keys.give_back()
  if api.nvim_buf_is_valid(self.buf) then
    api.nvim_buf_clear_namespace(self.buf, ns, 0, -1)
  end
  return true
end

--- Ends without a message. A buffer that was opened for it and holds nothing goes, with its window.
---@return boolean
function Run:give_up()
  if not self:finish() then
    return false
  end
  local untouched = self.own
    and api.nvim_buf_is_valid(self.buf)
    and vim.deep_equal(api.nvim_buf_get_lines(self.buf, 0, -1, false), { '' })
  if untouched then
    api.nvim_buf_delete(self.buf, { force = true })
  end
  return true
end

---@param text string
function Run:fail(text)
  if self:give_up() then
    notify.warn(text)
  end
end

-- Off, whatever a repository says: they start programs, or change the names of files, which the
-- exclude list and our pathspecs need as they are from the top.
local OFF = { 'core.fsmonitor', 'core.quotePath', 'diff.relative', 'log.showSignature' }
-- Files that a repository may name to be read: one without an end would be read until memory is.
local NOWHERE = { 'diff.orderFile', 'core.attributesFile', 'mailmap.file' }
-- The last two keep git from fetching what a partial clone lacks; versions of before 2024 know only
-- the last one.
local ENV = {
  GIT_OPTIONAL_LOCKS = '0',
  LC_ALL = 'C.UTF-8',
  GIT_NO_LAZY_FETCH = '1',
  GIT_ALLOW_PROTOCOL = 'none',
}

--- Runs git without anything that the repository's own configuration could start.
---@param dir string
---@param args string[]
---@param on_done fun(out: string?, err: string?, too_much: boolean?)
---@param limit number? bytes of output; more ends git, and what came is handed over
local function git(dir, args, on_done, limit)
  local cmd = { 'git', '-C', dir, '--no-pager' }
  for _, key in ipairs(OFF) do
    vim.list_extend(cmd, { '-c', key .. '=false' })
  end
  for _, key in ipairs(NOWHERE) do
    vim.list_extend(cmd, { '-c', key .. '=/dev/null' })
  end
  vim.list_extend(cmd, args)
  local o = { text = true, timeout = GIT_MS, env = ENV }
  local ok, err = pcall(child.read, cmd, o, limit or math.huge, function(done, out, too_much)
    -- The code of a program that was killed is 0.
    if too_much or (done.code == 0 and done.signal == 0) then
      return on_done((out:gsub('\r\n', '\n')), nil, too_much)
    end
    local why = vim.trim(done.stderr or ''):match('^[^\n]*')
    local how = done.code ~= 0 and ('git ended with status %d'):format(done.code)
      or ('git was ended by signal %d'):format(done.signal)
    on_done(nil, why ~= '' and why or how)
  end)
  if not ok then
    vim.schedule(function()
      on_done(nil, 'git was not found: ' .. child.why(err))
    end)
  end
end

---@class (exact) gemma.commit.Where
---@field dirs string[] the first one that is of the right repository counts
---@field git_dir string? of the right one; nil when any is

--- Is it the directory that git keeps a repository in?
---@param dir string
---@return boolean
local function is_git_dir(dir)
  local function has(name)
    return vim.uv.fs_stat(vim.fs.joinpath(dir, name)) ~= nil
  end
  return has('HEAD') and (has('objects') or has('commondir'))
end

--- The work tree of such a directory, as far as the place tells. The directory itself otherwise: git
--- knows by core.worktree, as in a submodule, or refuses.
---@param git_dir string
---@return string
local function work_tree(git_dir)
  local link = vim.fs.joinpath(git_dir, 'gitdir') -- a linked work tree: holds the path of its .git
  local path = vim.fn.filereadable(link) == 1 and vim.fn.readfile(link, '', 1)[1]
  if path then
    local absolute = path:find('^/') or path:find('^%a:')
    return vim.fs.dirname(absolute and path or vim.fs.joinpath(git_dir, path))
  end
  return vim.fs.basename(git_dir) == '.git' and vim.fs.dirname(git_dir) or git_dir
end

--- The folder that a buffer is about: that of its file, the one that oil lists, or the git directory that
--- fugitive shows.
---@param buf integer
---@return string? nil when it has no name
local function folder(buf)
  local name = api.nvim_buf_get_name(buf)
  if name:find('^fugitive://') then
    return vim.b[buf].git_dir or name:match('^fugitive://(.-)//')
  end
  return name:match('^oil://(/.*)') or (name ~= '' and vim.fs.dirname(name) or nil)
end

--- Where the repository is. For the message of a commit: the one whose directory holds it, since
--- other programs than git open messages of any repository in a Neovim that is running.
---@param buf integer
---@return gemma.commit.Where
local function where(buf)
  if vim.b[buf].gemma_commit then
    return vim.b[buf].gemma_commit
  end
  local cwd = vim.fn.getcwd()
  local dir = folder(buf)
  if not dir or not vim.uv.fs_stat(dir) then
    return { dirs = { cwd } }
  elseif is_git_dir(dir) then
    -- git started this Neovim, in the work tree. What it set would go with us to any other place.
    local by_git = vim.env.GIT_DIR or vim.env.GIT_INDEX_FILE
    return { dirs = by_git and { cwd } or { cwd, work_tree(dir) }, git_dir = dir }
  end
  -- The buffers of oil are 'acwrite'.
  local of_file = vim.bo[buf].filetype ~= 'gitcommit'
    and vim.tbl_contains({ '', 'acwrite' }, vim.bo[buf].buftype)
  return { dirs = { of_file and dir or cwd } }
end

---@param diff string
---@param subjects string
---@param left_out string[]
function Run:ask(diff, subjects, left_out)
  local conf = require('gemma.config').get()
  local tokens = DIFF_TOKENS[require('gemma.engine').is_gpu() and 'gpu' or 'cpu']
  tokens = math.min(tokens, conf.n_ctx - MAX_TOKENS - 512)
  local prompt = {}
  if subjects ~= '' then
    prompt[#prompt + 1] = '<earlier>\n' .. vim.trim(subjects) .. '\n</earlier>\n'
  end
  local bytes = math.max(1024, tokens * require('gemma.context').BYTES_PER_TOKEN)
  prompt[#prompt + 1] = '<diff>\n' .. M.shorten(diff, bytes) .. '</diff>\n'
  if #left_out > 0 then
    prompt[#prompt + 1] = ('%d further files are not shown.'):format(#left_out)
  end
  prompt[#prompt + 1] = 'Write the message of this commit.'
  self:busy(busy.begins())
  local written = false
  local session, fork_from = kept.task_session()
  self.handle = require('gemma.ask').ask({
    system = M.SYSTEM,
    prompt = table.concat(prompt, '\n'),
    session = session,
    fork_from = fork_from,
    max_tokens = MAX_TOKENS,
    temperature = 0,
    on_progress = function(done, total)
      if not written and total > 0 then
        self:busy(busy.reading(done, total))
      end
    end,
    on_token = function()
      if not written then
        written = true
        self:busy('writing')
      end
    end,
    on_done = function(text, info)
      self:finished(text, info)
    end,
  })
end

---@param text string?
---@param info gemma.Done|string
function Run:finished(text, info)
  if self.over then
    return
  elseif not text and info == 'cancelled' then
    self:give_up()
    return
  elseif not text then
    return self:fail(('no message: %s'):format(info))
  end
  local message = M.message(text)
  if #message == 0 then
    return self:fail('the model wrote no message. :Gemma commit asks again.')
  end
  self:finish()
  -- A buffer of ours that is in no window is one that the user has closed.
  local closed = self.own and #vim.fn.win_findbuf(self.buf) == 0
  if closed and api.nvim_buf_is_valid(self.buf) then
    api.nvim_buf_delete(self.buf, { force = true })
  end
  if closed or not api.nvim_buf_is_loaded(self.buf) then
    util.yank(message, 'l')
    return notify.warn('the commit buffer is gone; the message is yanked, p puts it.')
  end
  local ok, why = util.insert_or_yank(message, 'l', insert, self.buf, message)
  if not ok then
    why = why or 'it cannot be changed'
    notify.warn(('the message is yanked, p puts it; the buffer: %s'):format(why))
  end
end

--- Asks one place after the other until the repository is the right one.
---@param place gemma.commit.Where
---@param i integer
function Run:collect(place, i)
  local dir = place.dirs[i]
  git(dir, { 'rev-parse', '--show-toplevel', '--absolute-git-dir' }, function(out, err)
    if self.over then
      return
    end
    local top, git_dir = (out or ''):match('^(.*)\n(.*)\n$')
    local want = place.git_dir
    if top and (not want or vim.uv.fs_realpath(git_dir) == vim.uv.fs_realpath(want)) then
      return self:read(dir, top)
    elseif i < #place.dirs then
      return self:collect(place, i + 1)
    end
    local why = transcript.one_line(err or (dir .. ' is another repository'))
    if not want then
      return self:fail(('no repository here: %s'):format(why))
    end
    local help = i > 1 and ' :cd to it first.' or ''
    self:fail(
      ('no work tree found for %s (%s).%s'):format(vim.fn.fnamemodify(want, ':~'), why, help)
    )
  end)
end

--- The staged diff without the files that are excluded.
---@param dir string
---@param top string
function Run:read(dir, top)
  git(dir, { 'diff', '--cached', '--name-only', '-z', '--no-renames' }, function(names, err)
    if self.over then
      return
    elseif not names then
      return self:fail(('no staged changes can be read: %s'):format(transcript.one_line(err or '')))
    elseif names == '' then
      return self:fail('nothing is staged. Stage with git add first.')
    end
    local args = { 'diff', '--cached', '--no-color', '--no-ext-diff', '--no-textconv' }
    -- Of a submodule only its commit: its files are not in the list, and its configuration is its own.
    vim.list_extend(args, { '--submodule=short', '--', ':/' })
    local left_out, read, n = {}, {}, 0
    for name in vim.gsplit(names, '\0', { plain = true, trimempty = true }) do
      n = n + 1
      if require('gemma.exclude').is_excluded(top .. '/' .. name) then
        left_out[#left_out + 1] = name
        args[#args + 1] = ':(top,exclude,literal)' .. name
      else
        read[#read + 1] = name
      end
    end
    if #left_out == n then
      return self:fail(
        ('all staged files are excluded (exclude list), such as %s.'):format(left_out[1])
      )
    end
    git(dir, args, function(diff, why, too_much)
      if self.over then
        return
      elseif not diff then
        return self:fail(
          ('the staged diff cannot be read: %s'):format(transcript.one_line(why or ''))
        )
      elseif too_much then
        diff = M.complete(diff, read)
      end
      git(dir, { 'log', '-n', tostring(STYLE_COMMITS), '--format=%s' }, function(subjects)
        if not self.over then
          self:ask(diff, subjects or '', left_out)
        end
      end)
    end, DIFF_BYTES)
  end)
end

--- A buffer for a message when there is no commit buffer.
---@return integer
local function new_buffer()
  vim.cmd('new')
  local buf = api.nvim_get_current_buf()
  vim.bo[buf].buftype = 'nofile'
  vim.bo[buf].bufhidden = 'hide'
  vim.bo[buf].swapfile = false
  vim.bo[buf].filetype = 'gitcommit'
  return buf
end

local running ---@type gemma.commit.Run?

--- :Gemma commit.
function M.command()
  local here = api.nvim_get_current_buf()
  local place = where(here)
  if running and not running.over then
    return notify.info('a message is being written; <C-e> in its buffer stops it.')
  elseif vim.fn.executable('git') == 0 then
    return notify.warn('git was not found.')
  end
  require('gemma.highlight').ensure()
  local own = vim.bo[here].filetype ~= 'gitcommit' or not vim.bo[here].modifiable
  local self = setmetatable({ over = false, own = own, buf = own and new_buffer() or here }, Run)
  self.keys = require('gemma.edit.keys').lend(self.buf, {
    {
      lhs = '<C-e>',
      desc = 'stop',
      fn = function()
        self:give_up()
        if self.handle then
          self.handle.cancel()
        end
      end,
    },
  })
  running = self
  if own then
    vim.b[self.buf].gemma_commit = place -- asked again, it is the same repository
  end
  self:busy('asking git')
  self:collect(place, 1)
end

return M
