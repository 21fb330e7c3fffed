--- commit/init.lua: :Gemma commit, a message for what is staged.
---
--- Excluded files are left out before their contents are read. The message goes into the commit
--- buffer, or into a new one; git itself is not told.

local busy = require('gemma.busy')
local diffs = require('gemma.commit.diff')
local fence = require('gemma.chat.fence')
local git = require('gemma.commit.git')
local kept = require('gemma.chat.kept')
local notify = require('gemma.notify')
local transcript = require('gemma.chat.transcript')
local util = require('gemma.util')

local M = {}

local api = vim.api
local ns = api.nvim_create_namespace('gemma.commit')

local MAX_TOKENS = 400 -- of the message
local DIFF_TOKENS = { cpu = 2048, gpu = 6144 } -- a longer diff would be read for minutes
local STYLE_COMMITS = 8 -- subjects of the past, for the tone
local DIFF_BYTES = 2e6 -- many times what a prompt can hold; more would make the editor stand still

M.SYSTEM = [[
You write the message of a git commit from its diff. First line: what the commit does, in the
imperative, at most 72 characters, no full stop, in the style of the earlier subjects. Then, when the
diff does not explain itself, an empty line and a short body, at most 72 characters a line: why, and
what a reader would not expect. No lists of files, no Markdown, no quotes around the message.]]

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
  prompt[#prompt + 1] = '<diff>\n' .. diffs.shorten(diff, bytes) .. '</diff>\n'
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
  git.run(dir, { 'rev-parse', '--show-toplevel', '--absolute-git-dir' }, function(out, err)
    if self.over then
      return
    end
    local top, git_dir = (out or ''):match('^(.*)\n(.*)\n$')
    local want = place.git_dir
    if top and (not want or vim.uv.fs_realpath(git_dir) == vim.uv.fs_realpath(want)) then
      return self:read(dir, top, place.index)
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
---@param index string?
function Run:read(dir, top, index)
  git.run(dir, { 'diff', '--cached', '--name-only', '-z', '--no-renames' }, function(names, err)
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
    git.run(dir, args, function(diff, why, too_much)
      if self.over then
        return
      elseif not diff then
        return self:fail(
          ('the staged diff cannot be read: %s'):format(transcript.one_line(why or ''))
        )
      elseif too_much then
        diff = diffs.complete(diff, read)
      end
      git.run(dir, { 'log', '-n', tostring(STYLE_COMMITS), '--format=%s' }, function(subjects)
        if not self.over then
          self:ask(diff, subjects or '', left_out)
        end
      end)
    end, { limit = DIFF_BYTES, index = index })
  end, { index = index })
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
  local place = git.where(here)
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
